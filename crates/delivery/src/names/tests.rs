//! The addresses of a name, and their order. Look-ups are tested over real sockets.

use proptest::prelude::*;

use super::*;

fn v4(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

fn v6(last: u16) -> IpAddr {
    [0xfd00, 0, 0, 0, 0, 0, 0, last].into()
}

fn families(v4: Option<&[IpAddr]>, v6: Option<&[IpAddr]>) -> FoundFamilies {
    FoundFamilies { v4: v4.map(Into::into), v6: v6.map(Into::into), ttl: Duration::ZERO }
}

#[track_caller]
fn check(name: &ResolvedName, expected: &[IpAddr]) {
    assert_eq!(name.addresses().collect::<Vec<_>>(), expected);
}

#[test]
fn the_addresses_start_with_the_one_that_worked_last() {
    let name = ResolvedName::new("bot-0");
    check(&name, &[]);
    name.found(&families(Some(&[v4(1), v4(2)]), Some(&[v6(1)])));
    check(&name, &[v4(1), v4(2), v6(1)]);
    name.start_with(v4(2));
    check(&name, &[v4(2), v6(1), v4(1)]);
    name.start_with(v4(9));
    check(&name, &[v4(2), v6(1), v4(1)]);
    // The same after a look-up, as long as the name has that address.
    name.found(&families(Some(&[v4(0), v4(2), v4(3)]), Some(&[])));
    check(&name, &[v4(2), v4(3), v4(0)]);
    name.found(&families(Some(&[v4(0), v4(3)]), Some(&[])));
    check(&name, &[v4(0), v4(3)]);
}

#[test]
fn a_family_that_was_not_looked_up_keeps_its_addresses() {
    let name = ResolvedName::new("bot-0");
    name.found(&families(Some(&[v4(1)]), Some(&[v6(1)])));
    name.found(&families(Some(&[v4(2)]), None));
    check(&name, &[v4(2), v6(1)]);
    name.found(&families(None, Some(&[v6(2)])));
    check(&name, &[v4(2), v6(2)]);
    name.found(&families(Some(&[v4(2)]), Some(&[])));
    check(&name, &[v4(2)]);
    let many: Vec<IpAddr> = (0..200).map(v4).collect();
    name.found(&families(Some(&many), None));
    assert_eq!(name.addresses().count(), ADDRESSES_MAX);
}

#[test]
fn equal_names_share_their_addresses() {
    let mut names = Names::default();
    let one = names.share(Arc::new(ResolvedName::new("bot-0")));
    let two = names.share(Arc::new(ResolvedName::new("bot-0")));
    let other = names.share(Arc::new(ResolvedName::new("bot-1")));
    assert!(Arc::ptr_eq(&one, &two) && !Arc::ptr_eq(&one, &other));
    assert_eq!(one, Arc::new(ResolvedName::new("bot-0")));
    assert_ne!(one, other);
}

#[tokio::test(start_paused = true)]
async fn a_connection_waits_for_the_first_look_up_only() {
    // In the hosts file of every system.
    let name = Arc::new(ResolvedName::new("localhost"));
    let mut names = Names::default();
    names.share(Arc::clone(&name));
    assert!(tokio::time::timeout(Duration::from_secs(1), name.looked_up()).await.is_err());
    let waiting = tokio::spawn({
        let name = Arc::clone(&name);
        async move { name.looked_up().await }
    });
    let following = tokio::spawn(async move { names.follow(&[]).await });
    waiting.await.unwrap();
    assert!(name.addresses().any(|address| address.is_loopback()));
    name.looked_up().await;
    following.abort();
}

proptest! {
    /// Whatever is found and tried, all known addresses are tried, each once.
    #[test]
    fn each_address_is_tried_once(steps in proptest::collection::vec(
        (proptest::option::of(0..8_u8), proptest::option::of(0..8_u16), 0..8_u8), 1..20,
    )) {
        let name = ResolvedName::new("bot-0");
        let (mut known_v4, mut known_v6): (Vec<IpAddr>, Vec<IpAddr>) = (Vec::new(), Vec::new());
        for (count_v4, count_v6, first) in steps {
            if let Some(count) = count_v4 {
                known_v4 = (0..count).map(v4).collect();
            }
            if let Some(count) = count_v6 {
                known_v6 = (0..count).map(v6).collect();
            }
            let found_v4 = count_v4.map(|_| known_v4.as_slice());
            name.found(&families(found_v4, count_v6.map(|_| known_v6.as_slice())));
            name.start_with(v4(first));
            let mut tried: Vec<IpAddr> = name.addresses().collect();
            prop_assert!(!known_v4.contains(&v4(first)) || tried[0] == v4(first));
            tried.sort_unstable();
            let mut known: Vec<IpAddr> = known_v4.iter().chain(&known_v6).copied().collect();
            known.sort_unstable();
            prop_assert_eq!(tried, known);
        }
    }
}
