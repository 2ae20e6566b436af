use tidegate_base::Digest;

use super::*;

fn app() -> AppName {
    AppName::new("chat").unwrap()
}

fn version(number: u32) -> VersionRef {
    VersionRef { number, digest: Digest::from_bytes([number as u8; 32]) }
}

fn switch() -> SlotSwitch {
    SlotSwitch {
        slot: 1,
        from: Some(1),
        to: 2,
        pause_us: 300,
        waiting_events: 4,
        after_turn: 14,
        state_bytes: 5,
        state_lost: false,
        timers_carried: 6,
        timers_set: 7,
        timers_dropped: 13,
        lane_events_before: 8,
        lost: 9,
        repeated: 10,
        reordered: 11,
        first_event_us: Some(12),
    }
}

fn report() -> AppReport {
    AppReport {
        app: app(),
        slots: vec![Some(2), None],
        rollout: Some(RolloutReport {
            version: 2,
            step: Step::Switching,
            failure: Some(Failure::new(Some(1), Stage::Restore, "no".into())),
            switches: vec![switch()],
        }),
        judged: vec![VersionTally {
            version: 2,
            turns: 1,
            errors: 2,
            traps: 3,
            overruns: 4,
            slots_trapped: 5,
        }],
        asleep: 6,
    }
}

fn hex(message: &Control) -> String {
    message.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_bytes_of_messages_about_versions_are_stable() {
    let rollout = |phase| Some(DesiredRollout { version: version(2), phase });
    let desired = |rollout| DesiredApp { app: app(), stable: Some(version(1)), rollout };
    let apps = vec![
        desired(None),
        desired(rollout(RolloutPhase::Prepare)),
        desired(rollout(RolloutPhase::Switch { slots: 3 })),
        desired(rollout(RolloutPhase::Back)),
    ];
    let name = "0c64656661756c742f63686174";
    let (one, two) = ("01".repeat(32), "02".repeat(32));
    let golden = format!(
        "060904{name}0101{one}00{name}0101{one}0102{two}00{name}0101{one}0102{two}0103{name}0101{one}0102{two}02"
    );
    assert_eq!(hex(&Control::Apps { revision: 9, apps }), golden);
    let switch = "01010102ac02040e050006070d08090a0b010c";
    let golden = format!("0701{name}0201020001020401010106026e6f01{switch}0102010203040506");
    assert_eq!(hex(&Control::AppReports(vec![report()])), golden);
    assert_eq!(hex(&Control::Census { number: 300 }), "08ac02");
    let counted = AppClients { app: app(), clients: 1, opened: 2, closed: 3, events: 4, lost: 5 };
    assert_eq!(hex(&Control::Counted { number: 1, apps: vec![counted] }), format!("090101{name}0102030405"));
}

#[test]
fn messages_about_versions_survive_the_wire() {
    let messages = [
        Control::Apps { revision: 1, apps: vec![DesiredApp { app: app(), stable: None, rollout: None }] },
        Control::AppReports(vec![report()]),
        Control::Census { number: u64::MAX },
        Control::Counted { number: 0, apps: Vec::new() },
    ];
    for message in messages {
        assert_eq!(Control::from_bytes(&message.to_bytes()), Ok(message));
    }
}

#[test]
fn the_bytes_of_messages_about_the_catalog_are_stable() {
    let spec = tidegate_base::AppSpec { slots: Some(2), ..Default::default() };
    let apps = vec![CatalogApp { app: app(), born: 3, suspended: true, empty: false, spec }];
    let shares = vec![TenantShare { tenant: tidegate_base::Label::new("t").unwrap(), cpu_share_millis: 300 }];
    let part = CatalogPart { revision: 300, part: 0, more: false, apps, shares };
    let name = "0c64656661756c742f63686174";
    let spec = format!("0102{}0000000000000000", "00".repeat(30));
    assert_eq!(hex(&Control::Catalog(part)), format!("0aac02000001{name}030100{spec}010174ac02"));
    let troubles = vec![Trouble::new(app(), "no".into())];
    assert_eq!(hex(&Control::CatalogApplied { revision: 1, troubles }), format!("0b0101{name}026e6f"));
    let usage =
        tidegate_base::Usage { apps: 1, slots: 2, memory_mib: 3, connections: 4, cpu_share_millis: 5 };
    let fixed = Control::FixedApps(vec![FixedApp { app: app(), usage }]);
    assert_eq!(hex(&fixed), format!("0c01{name}0102030405"));
}

#[test]
fn older_messages_keep_their_numbers() {
    assert_eq!(hex(&Control::ListNodes), "05");
    assert_eq!(hex(&Control::Slots(Vec::new())), "0100");
}
