//! The page in narrow and wide windows: everything that it shows can be reached.

use super::*;

/// The cells with a text that are not on the screen, or not wholly and not scrollable, by table and column.
const UNREACHABLE: &str = "[...document.querySelectorAll('.table .row')].flatMap(row => {
    const outer = row.getBoundingClientRect();
    return [...row.children].filter(cell => {
        if (!cell.textContent) return false;
        const inner = cell.getBoundingClientRect();
        const isShown = inner.width > 0 && inner.height > 8 && getComputedStyle(cell).opacity === '1';
        const isInside = inner.left >= outer.left - 1 && inner.right <= outer.right + 1
            && inner.top >= outer.top - 1 && inner.bottom <= outer.bottom + 1 && inner.right <= innerWidth;
        const isWhole = cell.scrollWidth <= cell.clientWidth || cell.title
            || getComputedStyle(cell).overflowX === 'auto';
        return !(isShown && isInside && isWhole);
    }).map(cell => `${row.closest('.table').id} ${cell.className}: ${cell.textContent}`);
})";

/// The cells that cover another cell of their row.
const OVERLAPS: &str = "[...document.querySelectorAll('.table .row')].flatMap(row => {
    const boxes = [...row.children].filter(cell => cell.textContent)
        .map(cell => [cell.className, cell.getBoundingClientRect()]);
    return boxes.flatMap(([name, one], at) => boxes.slice(at + 1)
        .filter(([, other]) => one.left < other.right - 1 && other.left < one.right - 1
            && one.top < other.bottom - 1 && other.top < one.bottom - 1)
        .map(([other]) => `${row.closest('.table').id} ${name} ${other}`));
})";

/// The lists that scroll sideways.
const SIDEWAYS: &str = "[document.documentElement, ...document.querySelectorAll('.rows, .table, main, dl')]
    .filter(part => part.scrollWidth > part.clientWidth).map(part => part.id || part.tagName)";

/// The columns of the table of instances whose cells have no text in any row.
const EMPTY_COLUMNS: &str = "['name', 'state', 'reason', 'since', 'load', 'flight', 'placed', 'callbacks',
    'attempts', 'failures', 'action'].filter(name =>
        ![...document.querySelectorAll(`#instances .row > .${name}`)].some(cell => cell.innerText.trim()))";

#[tokio::test]
async fn every_column_can_be_reached_from_400_pixels_on() {
    let Some(browser) = Browser::start().await.unwrap() else { return };
    let (_issuer, gateway) = small_gateway().await;
    let page = open_for_events(&browser, &gateway).await;
    play_busy(&page).await;
    for width in [400, 480, 620, 760, 761, 900, 1100, 1280, 1350, 1351, 1600] {
        page.resize(width, 900).await.unwrap();
        page.wait_for(&format!("innerWidth === {width}")).await.unwrap();
        for (what, script) in [
            ("unreachable", UNREACHABLE),
            ("overlapping", OVERLAPS),
            ("scrolled sideways", SIDEWAYS),
            ("empty", EMPTY_COLUMNS),
        ] {
            assert_eq!(page.evaluate(script).await.unwrap(), json!([]), "{what} at {width}");
        }
    }
    close(browser, &page).await;
}

/// Long names and numbers of a large gateway.
#[tokio::test]
async fn long_texts_stay_in_their_cells_at_400_pixels() {
    let Some(browser) = Browser::start().await.unwrap() else { return };
    let (_issuer, gateway) = small_gateway().await;
    let page = open_for_events(&browser, &gateway).await;
    play_busy(&page).await;
    let longer = "(() => {
        const rows = [...instances.values()].map(row => ({ ...row, name: `${row.name}-${'x'.repeat(60)}`,
            calls_expected: 12345, capacity: 20000, in_flight: 1234, placed: 123456789, callbacks: 987654321,
            attempts: 987654321, failures: { refused: 12345, deadline_passed: 2345, closed_early: 345 } }));
        receive('fleet', { full: true, instances: rows });
    })()";
    page.evaluate(longer).await.unwrap();
    for width in [400, 761, 1351] {
        page.resize(width, 900).await.unwrap();
        page.wait_for(&format!("innerWidth === {width}")).await.unwrap();
        assert_eq!(page.evaluate(OVERLAPS).await.unwrap(), json!([]), "{width}");
        assert_eq!(page.evaluate(SIDEWAYS).await.unwrap(), json!([]), "{width}");
    }
    page.resize(400, 900).await.unwrap();
    page.wait_for("innerWidth === 400").await.unwrap();
    // The end of a long text is reached by scrolling its cell.
    let end = "(() => {
        const cell = document.querySelector('#instances .row > .failures');
        cell.scrollLeft = cell.scrollWidth;
        return cell.scrollLeft > 0 && cell.scrollLeft + cell.clientWidth >= cell.scrollWidth - 1;
    })()";
    assert_eq!(page.evaluate(end).await.unwrap(), true);
    // A row has the same height whatever is in it: the list of a large fleet relies on it.
    let heights =
        "new Set([...document.querySelectorAll('#instances .row')].map(row => row.offsetHeight)).size";
    assert_eq!(page.evaluate(heights).await.unwrap(), 1);
    close(browser, &page).await;
}
