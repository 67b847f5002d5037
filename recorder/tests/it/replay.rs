//! What a player outside of a terminal is given: a cast from any time on, marks and lines with their times, a live view.

use crate::support::*;
use cofferdam_recorder::*;
use serde_json::Value;

const S: i64 = 1_000_000;

fn resize(cols: u16, rows: u16) -> Event {
    Event::Resize { channel: 0, cols, rows }
}

fn finding() -> Event {
    Event::Finding(Box::new(Finding {
        trigger: "mass_delete".into(),
        severity: "high".into(),
        text: "40 files removed".into(),
        response: "notified".into(),
    }))
}

/// One line each second for a minute, with a few other things in between.
async fn minute(world: &World, session: &SessionRecorder) {
    session.record(resize(40, 5)).await.unwrap();
    for second in 0..60 {
        world.pass(S);
        session.record(output(&format!("\x1b[3{}mline {second}\x1b[0m\r\n", second % 8))).await.unwrap();
        match second {
            20 => session.record(finding()).await.unwrap(),
            30 => session.record(Event::Suspend { by: "olga".into() }).await.unwrap(),
            31 => session.record(Event::Resume { by: "olga".into() }).await.unwrap(),
            40 => session.record(resize(80, 10)).await.unwrap(),
            _ => {}
        }
    }
}

fn cast(recording: &Recording, options: CastOptions) -> Vec<Value> {
    let mut out = Vec::new();
    export_asciicast(recording, options, &mut out).unwrap();
    String::from_utf8(out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What a player's terminal shows at the end of a cast.
fn played(lines: &[Value], cols: usize, rows: usize) -> Vec<String> {
    let mut screen = Screen::new(cols, rows);
    for line in &lines[1..] {
        let text = line[2].as_str().unwrap();
        match line[1].as_str().unwrap() {
            "o" => screen.feed(text.as_bytes()),
            "r" => {
                let (cols, rows) = text.split_once('x').unwrap();
                let (cols, rows) = (cols.parse().unwrap(), rows.parse().unwrap());
                screen.apply(&Event::Resize { channel: 0, cols, rows });
            }
            _ => {}
        }
    }
    screen.rows()
}

#[tokio::test]
async fn a_cast_from_the_middle_begins_with_the_screen_as_it_stood_there() {
    for indexed in [false, true] {
        let world = World::new();
        let session = world.service().start(header("r1")).await.unwrap();
        minute(&world, &session).await;
        session.finish(End::because("closed")).await.unwrap();
        let recording = world.open("r1");
        if indexed {
            build_index(&recording).unwrap();
        }
        let whole = cast(&recording, CastOptions::of(CastVersion::V3));
        let (from, until) = (Some(T0 + 35 * S), Some(T0 + 45 * S));
        for version in [CastVersion::V2, CastVersion::V3] {
            let rest = cast(&recording, CastOptions { from, ..CastOptions::of(version) });
            assert!(rest.len() < whole.len() / 2, "{} of {}", rest.len(), whole.len());
            assert_eq!(rest[0]["timestamp"], T0 / S + 35);
            assert_eq!((rest[1][0].as_f64(), rest[1][1].as_str()), (Some(0.0), Some("o")));
            let start = played(&rest[..2], 40, 5);
            assert_eq!(start, ["line 31", "line 32", "line 33", "line 34", ""]);
            assert_eq!(played(&rest, 40, 5), played(&whole, 40, 5), "both end alike");
            let piece = cast(&recording, CastOptions { from, until, ..CastOptions::of(version) });
            assert_eq!(played(&piece, 40, 5).iter().filter(|row| row.as_str() == "line 43").count(), 1);
            assert!(!piece.iter().any(|line| line[2].as_str().is_some_and(|t| t.contains("line 44"))));
        }
    }
}

#[tokio::test]
async fn marks_and_lines_have_their_kinds_and_times_with_and_without_an_index() {
    let world = World::new();
    let session = world.service().start(header("r1")).await.unwrap();
    minute(&world, &session).await;
    session.finish(End::because("closed")).await.unwrap();
    let recording = world.open("r1");
    let found = marks(&recording, 100).unwrap();
    let told: Vec<_> = found.lines.iter().map(|l| (l.kind.as_str(), (l.at - T0) / S)).collect();
    assert_eq!(told, [("resize", 0), ("finding", 21), ("suspend", 31), ("resume", 32), ("resize", 41)]);
    assert!(!found.more);
    let query = Query { from: Some(T0 + 10 * S), until: Some(T0 + 20 * S), ..Query::default() };
    let text = lines(&recording, &query, 4).unwrap();
    assert!(text.more && text.lines.len() == 4 && text.lines.is_sorted_by_key(|l| l.at));
    let whole = lines(&recording, &query, 100).unwrap();
    assert!(whole.lines.iter().any(|l| l.text == "line 15" && l.at == T0 + 16 * S), "{whole:?}");
    build_index(&recording).unwrap();
    assert_eq!(marks(&recording, 100).unwrap(), found);
    assert_eq!(lines(&recording, &query, 100).unwrap(), whole);
}

/// Everything that is there now, as a cast's events and as marks.
fn drain(live: &mut Live) -> (String, Vec<String>, bool) {
    let (mut text, mut marks) = (String::new(), Vec::new());
    loop {
        match live.next(3).unwrap() {
            LiveNext::Events(events) => {
                for event in events {
                    match event {
                        LiveEvent::Cast(CastEvent { code: CastCode::Output, text: more, .. }) => {
                            text.push_str(&more);
                        }
                        LiveEvent::Mark(line) => marks.push(line.text),
                        _ => {}
                    }
                }
            }
            LiveNext::Waiting => return (text, marks, false),
            LiveNext::Ended => return (text, marks, true),
        }
    }
}

#[tokio::test]
async fn whoever_joins_sees_the_screen_and_then_what_happens_until_the_end() {
    let world = World::new();
    let session = world.service().start(header("r1")).await.unwrap();
    minute(&world, &session).await;
    // A character that is torn by the moment of joining is shown once, and whole.
    session.record(Event::Output { channel: 0, data: vec![b'#', 0xc3].into() }).await.unwrap();
    session.flush().await.unwrap();
    let (mut live, joined) = Live::join(&world.path("r1"), &world.reader, None).unwrap();
    assert_eq!(joined.view, Some(View { channel: 0, terminal: true }));
    assert_eq!((joined.cols, joined.rows, joined.at), (80, 10, T0 + 60 * S));
    let mut screen = Screen::restore(joined.cols, joined.rows, &joined.dump);
    assert_eq!(screen.rows()[8..], ["line 59", "#"]);
    assert_eq!(live.next(10).unwrap(), LiveNext::Waiting);
    session.record(Event::Output { channel: 0, data: vec![0xa4, b'!'].into() }).await.unwrap();
    session.record(finding()).await.unwrap();
    session.flush().await.unwrap();
    let (text, marks, ended) = drain(&mut live);
    screen.feed(text.as_bytes());
    assert_eq!(screen.rows()[9], "#ä!");
    assert!(marks[0].starts_with("finding mass_delete") && !ended, "{marks:?}");
    session.record(output("bye")).await.unwrap();
    session.finish(End::because("closed")).await.unwrap();
    assert_eq!(drain(&mut live), ("bye".to_owned(), vec![], true));
    assert!(Live::join(&world.path("r1"), &Identity::generate(), None).is_err());
}

#[tokio::test]
async fn a_terminal_that_appears_later_is_shown_and_a_command_without_one_can_be() {
    let world = World::new();
    let session = world.service().start(header("r1")).await.unwrap();
    let plain = |text: &str| Event::Output { channel: 4, data: text.to_owned().into() };
    session.record(plain("one\ntwo\n")).await.unwrap();
    session.flush().await.unwrap();
    let (mut live, joined) = Live::join(&world.path("r1"), &world.reader, None).unwrap();
    assert_eq!(joined.view, Some(View { channel: 4, terminal: false }));
    assert_eq!(Screen::restore(80, 24, &joined.dump).rows()[..2], ["one", "two"]);
    session.record(resize(40, 5)).await.unwrap();
    session.record(output("$ ")).await.unwrap();
    session.flush().await.unwrap();
    let LiveNext::Events(events) = live.next(10).unwrap() else { panic!("nothing happened") };
    assert_eq!(events[0], LiveEvent::View(View { channel: 0, terminal: true }));
    session.finish(End::because("closed")).await.unwrap();
    let recording = world.open("r1");
    let options = CastOptions { channel: Some(4), ..CastOptions::of(CastVersion::V2) };
    assert_eq!(played(&cast(&recording, options), 80, 24)[..2], ["one", "two"]);
    assert_eq!(View::of(&recording, None).unwrap().unwrap().channel, 0);
    assert_eq!(View::of(&recording, Some(9)).unwrap(), None);
}
