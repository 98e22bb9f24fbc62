//! The variables, as data.

use super::*;

type Values<'a> = &'a [(&'a str, &'a str)];

const ON: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");

fn read(values: Values<'_>) -> Result<Option<TraceSettings>, InvalidTraceSettings> {
    let value =
        |name: &str| values.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    TraceSettings::from_variables(value)
}

#[track_caller]
fn settings(values: Values<'_>) -> TraceSettings {
    let values = [&[ON], values].concat();
    read(&values).unwrap().expect("traces are on")
}

#[track_caller]
fn refused(values: Values<'_>, expected: &str) {
    let values = [values, &[ON]].concat();
    assert_eq!(read(&values).unwrap_err().to_string(), expected, "{values:?}");
}

#[test]
fn traces_are_off_unless_an_endpoint_is_set() {
    for values in [
        &[][..],
        &[("OTEL_SERVICE_NAME", "gateway")],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")],
        &[ON, ("OTEL_SDK_DISABLED", "TRUE")],
        &[ON, ("OTEL_TRACES_EXPORTER", "none"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
    ] {
        assert!(read(values).unwrap().is_none(), "{values:?}");
    }
    for values in [&[][..], &[("OTEL_SDK_DISABLED", "false"), ("OTEL_TRACES_EXPORTER", "otlp")]] {
        settings(values);
    }
}

#[test]
fn the_endpoint_of_all_signals_is_a_base() {
    for (values, expected) in [
        (&[ON][..], "http://collector:4318/v1/traces"),
        (&[(ON.0, "https://otlp.example/team/")], "https://otlp.example/team/v1/traces"),
        (&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://[::1]:4318/")], "http://[::1]:4318/"),
        (&[ON, ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://a.example/b?c=d")], "http://a.example/b?c=d"),
    ] {
        assert_eq!(read(values).unwrap().unwrap().endpoint.as_str(), expected);
    }
}

#[test]
fn the_defaults_are_those_of_the_specification() {
    let found = settings(&[]);
    assert_eq!((found.queue_max, found.batch_max), (2048, 512));
    assert_eq!((found.delay.as_millis(), found.timeout.as_millis()), (5000, 10_000));
    assert_eq!(found.sampler, Sampler::DEFAULT);
    assert!(found.headers.is_empty() && found.resource.is_empty() && found.certificate.is_none());
}

#[test]
fn every_variable_is_read() {
    let found = settings(&[
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "none"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "9000"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "700"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/etc/collector.pem"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ("OTEL_TRACES_SAMPLER", "traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other, deployment.environment.name=a%20b"),
        ("OTEL_SERVICE_NAME", "gateway"),
    ]);
    assert_eq!((found.queue_max, found.batch_max, found.delay.as_millis()), (100, 100, 50));
    assert_eq!(found.timeout.as_millis(), 700);
    assert_eq!(found.certificate, Some("/etc/collector.pem".into()));
    assert_eq!(Some(found.sampler), Sampler::of("traceidratio", 0.25));
    let attributes =
        [("service.name", "other"), ("deployment.environment.name", "a b"), ("service.name", "gateway")];
    let pair = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    assert_eq!(found.resource, attributes.map(pair));
    assert_eq!(settings(&[("OTEL_BSP_EXPORT_TIMEOUT", "20")]).timeout.as_millis(), 20);
}

#[test]
fn header_values_are_decoded_and_hidden() {
    let found = settings(&[
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-other=1"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", " Authorization = Bearer%20s3cret ,x-tenant=a,"),
    ]);
    let fields: Vec<_> =
        found.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(fields, [("authorization", "Bearer s3cret"), ("x-tenant", "a")]);
    assert!(!format!("{found:?}").contains("s3cret"));
}

#[test]
fn a_wrong_value_is_named_with_what_would_be_right() {
    let url = "not an absolute URL of http or https, like http://collector:4318, without \
               user, password and fragment";
    for (name, value, expected) in [
        ("OTEL_SDK_DISABLED", "yes", "\"yes\" is not true or false"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "\"zipkin\" is not otlp or none"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "collector:4318", url),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://u:s3cret@collector", url),
        (
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "grpc",
            "\"grpc\" is not supported; write http/protobuf, whose port at a collector is 4318",
        ),
        (
            "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
            "gzip",
            "\"gzip\" is not supported; write none, or remove the variable",
        ),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "\"10s\" is not a whole number from 1 to 300000"),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "s3cret",
            "not a list like name=value,name=value with percent-encoded values",
        ),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "a=%ff",
            "not a list like name=value,name=value with percent-encoded values",
        ),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "a b=s3cret",
            "field 1 has no name, or one that the gateway sets itself",
        ),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "a=b,Host=x",
            "field 2 has no name, or one that the gateway sets itself",
        ),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=s3%0acret", "the value of a has characters that no field may have"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a", "not a list like key=value,key=value with percent-encoded values"),
        (
            "OTEL_TRACES_SAMPLER",
            "xray",
            "\"xray\" is not one of always_on, always_off, traceidratio, parentbased_always_on, \
             parentbased_always_off, parentbased_traceidratio",
        ),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0", "\"0\" is not a whole number from 1 to 65536"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4096", "4096 is more than OTEL_BSP_MAX_QUEUE_SIZE, 2048"),
        ("OTEL_BSP_SCHEDULE_DELAY", "-1", "\"-1\" is not a whole number from 1 to 300000"),
    ] {
        refused(&[(name, value)], &format!("{name}: {expected}"));
    }
    for value in ["2", "-0.1", "NaN", "half"] {
        refused(
            &[("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", value)],
            "OTEL_TRACES_SAMPLER_ARG: not a number from 0 to 1",
        );
    }
    refused(
        &[("OTEL_BSP_SCHEDULE_DELAY", "x"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
        "OTEL_EXPORTER_OTLP_PROTOCOL: \"grpc\" is not supported; write http/protobuf, whose port at a \
         collector is 4318\nOTEL_BSP_SCHEDULE_DELAY: \"x\" is not a whole number from 1 to 300000",
    );
}
