//! The browser drives a small page that a server in this process sends.
#![cfg(unix)]

// `cfg(test)` is always true here; clippy lets helpers below it unwrap.
#[cfg(test)]
mod page {
    use std::time::Duration;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        time::{sleep, timeout},
    };
    use xtask_browser::{Browser, ColorScheme};

    const PAGE: &str = r#"<!DOCTYPE html><meta charset="utf-8"><title>Test</title>
<link rel=icon href="data:,">
<style>
  body { margin: 0; color: rgb(1, 1, 1); background: rgb(255, 255, 255) }
  @media (prefers-color-scheme: dark) { body { background: rgb(2, 2, 2) } }
  #wide { display: block } @media (max-width: 500px) { #wide { display: none } }
  #far { margin-top: 3000px; display: block }
</style>
<p id=wide>wide</p>
<button id=add>add</button> <output id=sum>0</output>
<form><input id=name value=old><select id=kind><option>peer<option>group</select></form>
<ol id=log></ol>
<button class=two>a</button><button class=two>b</button>
<button id=far>far</button>
<script>
  const note = text => { log.append(Object.assign(document.createElement('li'), { textContent: text })) };
  add.onclick = event => { sum.value = Number(sum.value) + 1; note('trusted ' + event.isTrusted) };
  far.onclick = () => note('far');
  kind.onchange = () => note('kind ' + kind.value);
  document.getElementById('name').onkeydown = event => note('key ' + event.key);
  document.querySelector('form').onsubmit = event => { event.preventDefault(); note('submitted') };
  setTimeout(() => note('later'), 200);
</script>"#;

    /// Serves `PAGE` at `/`, 404 elsewhere, and returns the origin.
    async fn serve() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut request = vec![0; 8192];
                    let length = stream.read(&mut request).await.unwrap_or(0);
                    let (status, body) = match request[..length].starts_with(b"GET / ") {
                        true => ("200 OK", PAGE),
                        false => ("404 Not Found", ""),
                    };
                    let head = format!(
                        "HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\
                         Connection: close\r\n\r\n",
                        body.len()
                    );
                    let _ = stream.write_all(head.as_bytes()).await;
                    let _ = stream.write_all(body.as_bytes()).await;
                });
            }
        });
        origin
    }

    #[tokio::test]
    async fn a_page_is_driven_as_a_user_would() {
        let Some(browser) = Browser::start().await.unwrap() else { return };
        let origin = serve().await;
        let page = browser.open(&format!("{origin}/")).await.unwrap();

        page.click("#add").await.unwrap();
        page.click("#add").await.unwrap();
        assert_eq!(page.text("#sum").await.unwrap(), "2");
        page.click("#far").await.unwrap();
        page.fill("#name", "née").await.unwrap();
        page.press("End").await.unwrap();
        page.type_text("-1.(").await.unwrap();
        assert_eq!(page.evaluate("document.getElementById('name').value").await.unwrap(), "née-1.(");
        page.press("Enter").await.unwrap();
        page.choose("#kind", "group").await.unwrap();
        page.wait_for("log.textContent.includes('later')").await.unwrap();
        let mut notes = page.text("#log").await.unwrap().lines().map(str::to_owned).collect::<Vec<_>>();
        notes.retain(|note| note != "later");
        assert_eq!(
            notes,
            [
                "trusted true",
                "trusted true",
                "far",
                "key End",
                "key -",
                "key 1",
                "key .",
                "key (",
                "key Enter",
                "submitted",
                "kind group",
            ]
        );

        // Keyboard only: the focus moves on, and Space presses the button.
        page.evaluate("document.getElementById('add').focus()").await.unwrap();
        page.press("Tab").await.unwrap();
        assert_eq!(page.evaluate("document.activeElement.id").await.unwrap(), "name");
        page.press("Shift+Tab").await.unwrap();
        page.press("Space").await.unwrap();
        page.wait_for("sum.value === '3'").await.unwrap();

        page.fill("#name", "").await.unwrap();
        assert_eq!(page.evaluate("document.getElementById('name').value").await.unwrap(), "");
        page.evaluate("navigator.clipboard.writeText('copied')").await.unwrap();
        assert_eq!(page.evaluate("navigator.clipboard.readText()").await.unwrap(), "copied");
        browser.close().await.unwrap();
    }

    #[tokio::test]
    async fn sizes_colours_and_problems_are_those_of_the_page() {
        let Some(browser) = Browser::start().await.unwrap() else { return };
        let origin = serve().await;
        let page = browser.open(&format!("{origin}/")).await.unwrap();

        for (width, display) in [(1200, "block"), (400, "none")] {
            page.resize(width, 800).await.unwrap();
            page.wait_for(&format!("innerWidth === {width}")).await.unwrap();
            assert_eq!(page.evaluate("getComputedStyle(wide).display").await.unwrap(), display);
        }
        let ground = "getComputedStyle(document.body).backgroundColor";
        for (scheme, colour) in
            [(ColorScheme::Dark, "rgb(2, 2, 2)"), (ColorScheme::Light, "rgb(255, 255, 255)")]
        {
            page.prefer(scheme).await.unwrap();
            assert_eq!(page.evaluate(ground).await.unwrap(), colour);
        }
        assert!(page.screenshot().await.unwrap().starts_with(b"\x89PNG"));

        let before = page.heap_bytes().await.unwrap();
        page.evaluate("void (window.kept = Array.from({ length: 1e6 }, (_, at) => ({ at })))").await.unwrap();
        let kept = page.heap_bytes().await.unwrap();
        page.evaluate("void delete window.kept").await.unwrap();
        assert!(kept > before + 8_000_000, "{before} {kept}");
        assert!(page.heap_bytes().await.unwrap() < before + 1_000_000);

        assert_eq!(page.problems(), Vec::<String>::new());
        page.evaluate("console.error('first', 2)").await.unwrap();
        page.evaluate("setTimeout(() => { throw new Error('second') })").await.unwrap();
        page.evaluate("fetch('/missing')").await.unwrap();
        page.evaluate("fetch('https://cdn.example/library.js').catch(() => 0)").await.unwrap();
        assert_eq!(page.evaluate("confirm('sure?')").await.unwrap(), true);
        let expected = ["console: first 2", "exception: Error: second", "/missing", "cdn.example", "sure?"];
        let is_known = |part: &&str| page.problems().iter().any(|problem| problem.contains(part));
        timeout(Duration::from_secs(60), async {
            while !expected.iter().all(is_known) {
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("{:#?}", page.problems()));
        assert_eq!(page.problems().len(), expected.len(), "{:#?}", page.problems());

        let thrown = page.evaluate("missing.member").await.unwrap_err().to_string();
        assert!(thrown.contains("ReferenceError"), "{thrown}");
        let refused = page.navigate("http://cdn.example/").await.unwrap_err().to_string();
        assert!(refused.contains("cannot load http://cdn.example/"), "{refused}");
        browser.close().await.unwrap();
    }
}
