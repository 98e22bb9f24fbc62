//! The configurations of nginx and HAProxy. Both log one line of JSON per request and keep connections to the
//! upstream, as the gateway does.

/// One process: workers would survive a master that is killed.
pub(super) const NGINX_HEAD: &str = "# Made by `cargo xtask bench`.
master_process off;
pid {folder}/pid;
events { worker_connections 16384; }
";

pub(super) const NGINX_UPSTREAM: &str = "http {
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}/body;
    server { listen {address}; location / { return 202; } }
}
";

/// The log is written several times a second, as the gateway writes its own.
pub(super) const NGINX: &str = r#"http {
    log_format json escape=json '{"time":"$time_iso8601","method":"$request_method","path":"$uri",'
        '"status":$status,"duration":$request_time,"address":"$remote_addr","bytes":$body_bytes_sent}';
    access_log {folder}/access.log json buffer=64k flush=250ms;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    keepalive_requests 1000000000;
    upstream bots { server {upstream}; keepalive 128; keepalive_requests 1000000000; }
    server {
        listen {plain};
        listen {secure} ssl;
        ssl_certificate {folder}/../tls.crt;
        ssl_certificate_key {folder}/../tls.key;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_session_cache shared:tls:10m;
        location / {
            proxy_pass http://bots;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }
    }
}
"#;

pub(super) const HAPROXY: &str = r#"# Made by `cargo xtask bench`.
global
    nbthread 1
    maxconn 16000
    no strict-limits
    log stdout format raw local0

defaults
    mode http
    log global
    log-format '{"time":"%tr","method":"%HM","path":"%HP","status":%ST,"duration_ms":%Ta,"address":"%ci","bytes":%B}'
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout http-keep-alive 60s

frontend platform
    bind {plain}
    bind {secure} ssl crt {certificate}
    default_backend bots

frontend checked
    bind {check}
    http-request set-var(txn.token) http_auth_bearer
    http-request set-var(txn.now) date()
    http-request deny deny_status 401 unless { var(txn.token),jwt_header_query('$.alg') -m str RS256 }
    http-request deny deny_status 401 unless { var(txn.token),jwt_payload_query('$.iss') -m str https://api.botframework.com }
    http-request deny deny_status 401 unless { var(txn.token),jwt_payload_query('$.aud') -m str {app} }
    http-request deny deny_status 401 if { var(txn.token),jwt_payload_query('$.exp','int'),sub(txn.now) -m int lt 0 }
    http-request deny deny_status 401 unless { var(txn.token),jwt_verify(RS256,"{public_key}") -m int 1 }
    default_backend bots

backend bots
    http-reuse always
    server bot {upstream}
"#;
