//! Screens of the view, in a terminal of 80 by 24 characters.

use super::app::{Action, App, View};
use super::{choose, draw};
use crate::findings;
use crate::live::Abilities;
use crate::model::{
    Detail, Family, Key, Lock, Maker, Member, Object, Pool, Process, Progress, Queue, SeatState, Task,
    Totals, Waits, Worker,
};
use crate::watch::{Finished, LockFlow, Moment, PoolFlow, QueueFlow};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::KeyCode;
use ratatui::style::{Color, Modifier};

const PLAIN: Abilities = Abilities {
    unicode: false,
    colour: false,
    cursor: true,
};
const SECOND: u64 = 1_000_000_000;
const NOW: u64 = 1000 * SECOND;

fn key(number: u64) -> Key {
    Key {
        at: 0x200_0000 + 0x1000 * number,
        generation: 1,
    }
}

fn object(number: u64, name: &str, detail: Detail) -> Object {
    Object {
        key: key(number),
        name: Some(name.to_owned()),
        made_at: Some("/home/me/train.py:8 main".to_owned()),
        maker: Maker::default(),
        age: 60.0,
        references: 2,
        bytes: 512,
        operations: 100,
        detail,
    }
}

fn member(seat: u32, name: &str, state: char) -> Member {
    Member {
        seat,
        generation: 1,
        pid: Some(100 + seat),
        own_pid: 100 + seat,
        name: name.to_owned(),
        state: SeatState::Alive,
        parent: (seat > 0).then_some(0),
        process: Some(Process {
            state,
            ..Process::default()
        }),
        ..Member::default()
    }
}

fn moment() -> Moment {
    let members = vec![
        member(0, "MainProcess", 'S'),
        member(1, "worker-1", 'R'),
        member(2, "worker-2\u{1b}[2J", 'S'),
    ];
    let worker = |slot: u32| Worker {
        slot,
        who: Some(members[slot as usize + 1].who()),
        ready: true,
        done: 5,
        busy: 7.5,
        ..Worker::default()
    };
    let mut busy = worker(0);
    busy.task = Some(Task {
        id: 9,
        function: Some("__main__.load".to_owned()),
        number: Some(12),
        seconds: 2.5,
        progress: Some(Progress {
            done: 2.0,
            total: Some(8.0),
            text: Some("pages".to_owned()),
        }),
        ..Task::default()
    });
    let mut idle = worker(1);
    idle.idle = Some(0.25);
    let totals = Totals {
        submitted: 200,
        returned: 150,
        failed: 2,
        ..Totals::default()
    };
    let pool = Pool {
        owner: Some(members[0].who()),
        waiting: 49,
        totals,
        workers: vec![busy, idle],
        ..Pool::default()
    };
    let queue = Queue {
        depth: 30,
        limit: Some(100),
        ..Queue::default()
    };
    let lock = Lock {
        holder: Some(members[1].who()),
        waits: Waits {
            begun: 10,
            ended: 9,
            seconds: 1.0,
        },
        ..Lock::default()
    };
    let family = Family {
        program: "train.py".to_owned(),
        at: NOW,
        age: 60.0,
        members,
        objects: vec![
            object(1, "loader", Detail::Pool(pool)),
            object(2, "tasks", Detail::Queue(queue)),
            object(3, "index", Detail::Lock(lock)),
        ],
        memory: crate::model::Memory {
            blocks: 77,
            resident: Some(4 << 20),
            ..crate::model::Memory::default()
        },
        ..Family::default()
    };
    let finished = |slot: u32, began: u64, ended: u64| Finished {
        pool: key(1),
        slot,
        id: began,
        function: Some("__main__.load".to_owned()),
        number: Some(began),
        began: NOW - 10 * SECOND + began * SECOND / 10,
        ended: NOW - 10 * SECOND + ended * SECOND / 10,
        ..Finished::default()
    };
    let pool = PoolFlow {
        mean_settled: 25.0,
        eta: Some(2.0),
        ..PoolFlow::default()
    };
    let queue = QueueFlow {
        put: 12.0,
        taken: 2.5,
        mean_taken: 2.5,
        wait: Some(12.0),
    };
    let lock = LockFlow {
        operations: 9.0,
        contended: 3.5,
        mean_wait: Some(0.02),
    };
    Moment {
        family,
        queues: [(key(2), queue)].into(),
        pools: [(key(1), pool)].into(),
        locks: [(key(3), lock)].into(),
        cpu: [(0, 1.0), (1, 97.4)].into(),
        finished: vec![
            finished(0, 0, 25),
            finished(0, 25, 50),
            finished(1, 50, 60),
            finished(0, 50, 75),
            finished(1, 60, 97),
        ],
        ..Moment::default()
    }
}

fn app(abilities: Abilities) -> App {
    let mut app = App::new(abilities);
    app.take(moment());
    app.clock = "17:04:25".to_owned();
    app
}

fn terminal(app: &mut App, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal.draw(|frame| draw::draw(frame, app)).expect("a screen");
    terminal
}

fn screen_of(app: &mut App, width: u16, height: u16) -> Vec<String> {
    let terminal = terminal(app, width, height);
    let buffer = terminal.backend().buffer();
    let lines = buffer.content().chunks(width.into());
    lines
        .map(|line| line.iter().map(ratatui::buffer::Cell::symbol).collect::<String>())
        .map(|line| line.trim_end().to_owned())
        .collect()
}

fn screen(app: &mut App) -> String {
    screen_of(app, 80, 24).join("\n")
}

fn press(app: &mut App, keys: &[KeyCode]) -> Action {
    let mut action = Action::None;
    for key in keys {
        action = app.key(*key);
    }
    action
}

fn text(text: &str) -> Vec<KeyCode> {
    text.chars().map(KeyCode::Char).collect()
}

#[test]
fn the_view_of_all_shows_every_section() {
    let mut app = app(PLAIN);
    app.take(Moment {
        finished: Vec::new(),
        ..moment()
    });
    let expected = "\
\u{20}train.py 100  3 processes  CPU 98 %  memory 4.0 M, 77 blocks          17:04:25
pool \"loader\"  done 150  25.00/s  ETA 2.0 s  running 1/2  waiting 49  failed 2
  ####################################################                    75 %
  0    2.5 s 2/8 pages load #12         |=========++++++++++----------#########|
  1    0.2 s idle                       |                   ====++++++++++++++ |

QUEUE                              DEPTH              IN/S    OUT/S  WAIT
\"tasks\"                           30/100 ##             12      2.5  12.0 s

LOCK                     WAITING  WAITS/S MEAN WAIT  HOLDER
Lock \"index\"                   1      3.5     20 ms  worker-1 101

    PID NAME                 S CPU% DOES                                 SINCE
    100 MainProcess          S    1 -
    101 worker-1             R   97 __main__.load, number 12             2.5 s
    102 worker-2\\u{1b}[2J    S    0 idle, 5 done                         0.2 s";
    let shown = screen(&mut app);
    let body: Vec<&str> = shown.lines().take(16).collect();
    assert_eq!(body.join("\n"), expected, "\n{shown}");
    assert!(shown.ends_with("w report  ? help"), "\n{shown}");
}

#[test]
fn shades_and_colours_are_used_where_the_terminal_has_them() {
    let abilities = Abilities {
        unicode: true,
        colour: true,
        cursor: true,
    };
    let mut coloured = app(abilities);
    let shown = screen(&mut coloured);
    assert!(shown.contains('▓') && shown.contains('█'), "\n{shown}");
    let colours = |app: &mut App| {
        let terminal = terminal(app, 80, 24);
        let cells = terminal.backend().buffer().content().iter();
        cells
            .filter(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
            .count()
    };
    assert!(colours(&mut coloured) > 0);
    assert_eq!(colours(&mut app(PLAIN)), 0);
    assert!(screen(&mut app(PLAIN)).is_ascii());
}

#[test]
fn any_size_of_the_terminal_will_do() {
    let mut app = app(PLAIN);
    for (width, height) in [(1, 1), (2, 5), (20, 3), (33, 7), (200, 60)] {
        assert_eq!(screen_of(&mut app, width, height).len(), usize::from(height));
        press(&mut app, &[KeyCode::Char('?')]);
        assert_eq!(screen_of(&mut app, width, height).len(), usize::from(height));
        press(&mut app, &[KeyCode::Esc]);
    }
}

#[test]
fn tab_and_digits_change_the_view() {
    let mut app = app(PLAIN);
    press(&mut app, &[KeyCode::Tab, KeyCode::Tab]);
    assert_eq!(app.view, View::Queues);
    let shown = screen(&mut app);
    assert!(shown.contains("QUEUE") && !shown.contains("LOCK"), "\n{shown}");
    press(&mut app, &[KeyCode::Char('6')]);
    assert!(screen(&mut app).contains("no warnings"));
    press(&mut app, &[KeyCode::Tab]);
    assert_eq!(app.view, View::All);
}

#[test]
fn a_filter_leaves_the_rows_that_contain_it() {
    let mut app = app(PLAIN);
    press(&mut app, &text("/worker-1"));
    let shown = screen(&mut app);
    assert!(
        shown.ends_with("/worker-1_  enter keeps it, escape drops it"),
        "\n{shown}"
    );
    press(&mut app, &[KeyCode::Enter]);
    let shown = screen(&mut app);
    assert!(
        shown.contains("  0    2.5 s") && !shown.contains("  1    0.2 s"),
        "\n{shown}"
    );
    assert!(
        !shown.contains("MainProcess") && !shown.contains("\"tasks\""),
        "\n{shown}"
    );
    press(&mut app, &[KeyCode::Esc]);
    assert!(screen(&mut app).contains("MainProcess"));
}

#[test]
fn the_order_puts_the_busiest_first() {
    let mut app = app(PLAIN);
    press(&mut app, &text("5o"));
    let shown = screen(&mut app);
    let (busy, main) = (shown.find("worker-1"), shown.find("MainProcess"));
    assert!(busy < main, "\n{shown}");
}

#[test]
fn enter_shows_the_task_of_a_worker_and_those_before() {
    let mut app = app(PLAIN);
    press(&mut app, &[KeyCode::Down, KeyCode::Down, KeyCode::Enter]);
    let shown = screen(&mut app);
    for line in [
        " worker 0, worker-1 101 ",
        "runs         2.5 s  __main__.load, number 12",
        "reports   2/8  pages",
        "took         2.5 s  __main__.load, number 50  (2.5 s ago)",
    ] {
        assert!(shown.contains(line), "{line}\n{shown}");
    }
    press(&mut app, &[KeyCode::Esc]);
    assert!(app.popup.is_none());
    assert_eq!(press(&mut app, &[KeyCode::Char('s')]), Action::Stacks(101));
}

#[test]
fn a_selected_row_is_marked_and_scrolled_to() {
    let mut app = app(PLAIN);
    press(&mut app, &[KeyCode::End]);
    let terminal = terminal(&mut app, 80, 8);
    let buffer = terminal.backend().buffer();
    let row = (0..8).find(|row| buffer[(4, *row)].symbol() == "1" && buffer[(6, *row)].symbol() == "2");
    let row = row.expect("the row of the process 102 is on the screen");
    assert!(buffer[(4, row)].modifier.contains(Modifier::REVERSED));
}

#[test]
fn a_view_that_is_paused_or_whose_program_has_ended_stays() {
    let mut app = app(PLAIN);
    press(&mut app, &text("p"));
    let mut later = moment();
    later.family.program = "other.py".to_owned();
    app.take(later.clone());
    assert!(screen(&mut app).contains("train.py 100") && screen(&mut app).contains("PAUSED"));
    press(&mut app, &text("p"));
    app.take(later);
    assert!(screen(&mut app).contains("other.py"));
    app.take(Moment::default());
    app.ended = Some("the program has ended".to_owned());
    let shown = screen(&mut app);
    assert!(shown.contains("other.py"), "\n{shown}");
    assert!(
        shown.contains("! the program has ended: this is what was seen last; q quits"),
        "\n{shown}"
    );
    assert_eq!(press(&mut app, &text("q")), Action::Quit);
}

#[test]
fn warnings_are_shown_below_and_in_their_view() {
    let mut app = app(PLAIN);
    let mut stopped = moment();
    if let Some(process) = &mut stopped.family.members[1].process {
        process.state = 'T';
    }
    stopped.findings = findings::find(&stopped.family);
    assert!(!stopped.findings.is_empty());
    app.take(stopped);
    let shown = screen(&mut app);
    assert!(shown.contains("! STOPPED  "), "\n{shown}");
    press(&mut app, &text("6"));
    press(&mut app, &[KeyCode::Down, KeyCode::Enter]);
    let shown = screen(&mut app);
    assert!(shown.contains("kill -CONT 101"), "\n{shown}");
}

#[test]
fn a_narrow_terminal_shows_whole_facts_and_the_key_of_the_help() {
    let mut app = app(PLAIN);
    for width in 30..110 {
        let lines = screen_of(&mut app, width, 24);
        assert!(lines[23].ends_with("? help"), "{width}: {}", lines[23]);
        assert!(
            lines[23].contains("w report") || !lines[23].contains("w rep"),
            "{width}: {}",
            lines[23]
        );
        let facts = lines[0].trim_end_matches("17:04:25");
        assert!(
            facts.contains("memory 4.0 M, 77 blocks") || !facts.contains("memory"),
            "{width}: {facts}"
        );
        let pool = &lines[1];
        assert!(
            pool.contains("waiting 49") || !pool.contains("waiting"),
            "{width}: {pool}"
        );
    }
}

#[test]
fn the_list_of_families_marks_the_selected_one() {
    let mut terminal = Terminal::new(TestBackend::new(40, 6)).expect("a terminal");
    let headings = ["family of 1 (a.py)", "family of 2 (b.py)"];
    terminal
        .draw(|frame| choose::draw(frame, &headings, 1))
        .expect("a screen");
    let buffer = terminal.backend().buffer();
    assert!(!buffer[(1, 2)].modifier.contains(Modifier::REVERSED));
    assert!(buffer[(1, 3)].modifier.contains(Modifier::REVERSED));
}

#[test]
fn a_selection_does_not_outlive_a_change_of_view() {
    let mut app = app(PLAIN);
    press(&mut app, &[KeyCode::Down, KeyCode::Down]);
    assert_eq!(press(&mut app, &text("s")), Action::Stacks(101));
    press(&mut app, &text("5"));
    assert_eq!(app.selected, None);
    assert_eq!(press(&mut app, &text("s")), Action::None);
    press(&mut app, &[KeyCode::Down]);
    assert_eq!(press(&mut app, &text("s")), Action::Stacks(100));
    // A row that both views show stays selected.
    press(&mut app, &text("1"));
    assert_eq!(press(&mut app, &text("s")), Action::Stacks(100));
    // A filter may hide it.
    press(&mut app, &text("/worker-1"));
    assert_eq!(app.selected, None);
}

/// A moment with a stopped process and a dead one's lock: two findings.
fn troubled() -> Moment {
    let mut moment = moment();
    if let Some(process) = &mut moment.family.members[1].process {
        process.state = 'T';
    }
    if let Detail::Lock(lock) = &mut moment.family.objects[2].detail {
        lock.died = Some(crate::model::Ended {
            name: "writer".to_owned(),
            pid: 77,
            exit: Some(-9),
        });
        lock.holder = None;
    }
    moment.findings = findings::find(&moment.family);
    moment
}

#[test]
fn a_finding_stays_selected_when_another_one_comes_or_goes() {
    let mut app = app(PLAIN);
    let before = troubled();
    assert_eq!(before.findings.len(), 2);
    app.take(before.clone());
    press(&mut app, &text("6"));
    press(&mut app, &[KeyCode::Down, KeyCode::Down]);
    let mut later = before;
    later.findings.remove(0);
    app.take(later);
    press(&mut app, &[KeyCode::Enter]);
    let shown = screen(&mut app);
    assert!(shown.contains(" DIED "), "\n{shown}");
}

#[test]
fn the_words_of_a_suspected_finding_are_those_of_why() {
    let mut suspected = troubled();
    for finding in &mut suspected.findings {
        finding.proof = findings::Proof::Suspected;
    }
    let mut app = app(PLAIN);
    app.take(suspected);
    for view in ["1", "6"] {
        press(&mut app, &text(view));
        let shown = screen(&mut app);
        assert!(shown.contains("STOPPED (suspected)  worker-1"), "\n{shown}");
    }
}

#[test]
fn a_popup_shows_the_whole_of_long_lines_and_says_how_much_is_below() {
    let mut app = app(PLAIN);
    let words: Vec<String> = (0..60).map(|word| format!("word{word:02}")).collect();
    for width in [20_u16, 60, 80, 90, 100, 110] {
        app.pop_up(
            "long".to_owned(),
            &format!("  {}\n{}", words.join(" "), "X".repeat(150)),
        );
        let shown = screen_of(&mut app, width, 90).join("\n");
        for word in &words {
            assert!(shown.contains(word.as_str()), "{word} {width}\n{shown}");
        }
        assert_eq!(shown.matches('X').count(), 150, "{width}\n{shown}");
    }
    app.pop_up("high".to_owned(), &"line\n".repeat(50));
    assert!(
        screen(&mut app).contains(" 30 lines below "),
        "{}",
        screen(&mut app)
    );
    press(&mut app, &[KeyCode::End]);
    assert!(!screen(&mut app).contains("below"));
    press(&mut app, &[KeyCode::Up]);
    assert!(screen(&mut app).contains(" 1 line below "));
}

#[test]
fn the_details_of_a_process_fit_into_any_terminal() {
    let mut app = app(PLAIN);
    for width in [60_u16, 80, 90, 100, 110, 200] {
        press(&mut app, &text("5"));
        press(&mut app, &[KeyCode::End, KeyCode::Enter]);
        let shown = screen_of(&mut app, width, 24).join("\n");
        for line in ["MEMORY  ", "DOES    idle, 5 done", "SINCE   0.2 s"] {
            assert!(shown.contains(line), "{line} {width}\n{shown}");
        }
        press(&mut app, &[KeyCode::Esc]);
    }
}

#[test]
fn a_terminal_without_other_characters_gets_ascii_alone() {
    let mut odd = troubled();
    odd.family.members[0].name = "Türschloß".to_owned();
    odd.family.objects[1].name = Some("漢→".to_owned());
    let mut app = app(PLAIN);
    app.take(odd);
    for keys in ["1", "5", "6", "2", "3", "4", "?"] {
        press(&mut app, &text(keys));
        assert!(screen(&mut app).is_ascii(), "{keys}\n{}", screen(&mut app));
        press(&mut app, &[KeyCode::Down, KeyCode::Enter]);
        assert!(screen(&mut app).is_ascii(), "{keys}\n{}", screen(&mut app));
        press(&mut app, &[KeyCode::Esc]);
    }
}

#[test]
fn a_pool_that_has_ended_is_shown_as_ended_with_its_rate() {
    let mut over = moment();
    if let Detail::Pool(pool) = &mut over.family.objects[0].detail {
        pool.phase = crate::model::PoolPhase::Terminating;
        for worker in &mut pool.workers {
            (worker.who, worker.task, worker.idle) = (None, None, None);
        }
    }
    let mut app = app(PLAIN);
    app.take(over);
    let shown = screen(&mut app);
    assert!(
        shown.contains("pool \"loader\"  done 150  25.00/s  "),
        "\n{shown}"
    );
    assert!(shown.contains("  ended  failed 2"), "\n{shown}");
}
