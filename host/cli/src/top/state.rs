//! What is on the screen: samples and keys in, pages out. Pure.

use super::columns::{Column, Line, View, What};
use super::figures::{Figures, Sample};

/// A key that means something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    Char(char),
    Enter,
    Escape,
    Backspace,
    Tab,
    BackTab,
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    /// Ctrl-C.
    Interrupt,
}

/// What to do after a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    GoOn,
    Quit,
}

/// Calling contract: [`on_sample`](Self::on_sample), [`on_trouble`](Self::on_trouble) and [`on_key`](Self::on_key) as they come;
/// [`page`](Self::page) at any time.
#[derive(Debug)]
pub(crate) struct Top {
    view: View,
    /// Of each view.
    sorts: [Sort; View::ALL.len()],
    /// In lower case.
    filter: String,
    typing: bool,
    /// Lines above the first that is shown.
    above: usize,
    latest: Option<Sample>,
    figures: Figures,
    trouble: Option<String>,
}

#[derive(Debug, Clone, Copy)]
struct Sort {
    by: What,
    reversed: bool,
}

/// What a screen shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page {
    pub title: String,
    pub view: View,
    /// Beside the names of the views: the filter, and which lines are shown.
    pub place: String,
    /// With their widths here, and whether the lines are in their order.
    pub columns: Vec<(Column, u16, bool)>,
    pub rows: Vec<Row>,
    /// The last line: what is wrong, or which keys there are.
    pub foot: Foot,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub cells: Vec<String>,
    pub alarming: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Foot {
    Help(&'static str),
    Trouble(String),
}

impl Top {
    pub fn new(view: View, filter: &str) -> Self {
        let sort = |by| Sort { by, reversed: false };
        Self {
            view,
            sorts: [sort(What::Name), sort(What::Turns), sort(What::Turns)],
            filter: filter.to_lowercase().chars().take(FILTER_MAX).collect(),
            typing: false,
            above: 0,
            latest: None,
            figures: Figures::default(),
            trouble: None,
        }
    }

    pub fn on_sample(&mut self, sample: Sample) {
        self.figures = Figures::between(self.latest.as_ref(), &sample);
        self.latest = Some(sample);
        self.trouble = None;
    }

    /// Nobody could be asked. What was heard before stays.
    pub fn on_trouble(&mut self, why: String) {
        self.trouble = Some(why);
    }

    pub fn on_key(&mut self, key: Key) -> Then {
        if key == Key::Interrupt {
            return Then::Quit;
        }
        if self.typing {
            self.on_typed(key);
            return Then::GoOn;
        }
        match key {
            Key::Char('q') => return Then::Quit,
            Key::Char('/') => self.typing = true,
            Key::Escape => self.filter.clear(),
            Key::Tab => self.turn_to(1),
            Key::BackTab => self.turn_to(View::ALL.len() - 1),
            Key::Char('s') | Key::Char('>') => self.sort_by_next(1),
            Key::Char('S') | Key::Char('<') => self.sort_by_next(self.view.columns().len() - 1),
            Key::Char('r') => self.sort_mut().reversed ^= true,
            Key::Up | Key::Char('k') => self.above = self.above.saturating_sub(1),
            Key::Down | Key::Char('j') => self.above = self.above.saturating_add(1),
            Key::PageUp => self.above = self.above.saturating_sub(PAGE_LINES),
            Key::PageDown => self.above = self.above.saturating_add(PAGE_LINES),
            Key::Home => self.above = 0,
            Key::End => self.above = usize::MAX,
            _ => {}
        }
        // Beyond the end there is nothing.
        self.above = self.above.min(self.lines().len().saturating_sub(1));
        Then::GoOn
    }

    fn on_typed(&mut self, key: Key) {
        match key {
            Key::Char(c) if self.filter.chars().count() < FILTER_MAX => self.filter.extend(c.to_lowercase()),
            Key::Backspace => drop(self.filter.pop()),
            Key::Enter | Key::Tab => self.typing = false,
            Key::Escape => {
                self.typing = false;
                self.filter.clear();
            }
            _ => {}
        }
        self.above = 0;
    }

    fn turn_to(&mut self, steps: usize) {
        let at = View::ALL.iter().position(|view| *view == self.view).unwrap_or_default();
        if let Some(view) = View::ALL.into_iter().cycle().nth(at + steps) {
            self.view = view;
        }
        self.above = 0;
    }

    fn sort_by_next(&mut self, steps: usize) {
        let columns = self.view.columns();
        let by = self.sort().by;
        let at = columns.iter().position(|column| column.what == by).unwrap_or_default();
        if let Some(column) = columns.iter().cycle().nth(at + steps) {
            *self.sort_mut() = Sort { by: column.what, reversed: false };
        }
    }

    fn sort(&self) -> Sort {
        let [nodes, tenants, apps] = self.sorts;
        match self.view {
            View::Nodes => nodes,
            View::Tenants => tenants,
            View::Apps => apps,
        }
    }

    fn sort_mut(&mut self) -> &mut Sort {
        let [nodes, tenants, apps] = &mut self.sorts;
        match self.view {
            View::Nodes => nodes,
            View::Tenants => tenants,
            View::Apps => apps,
        }
    }

    /// Those that fit the filter, in order.
    fn lines(&self) -> Vec<Line> {
        let mut lines = self.view.lines(&self.figures);
        lines.retain(|line| line.name.to_lowercase().contains(&self.filter));
        let Sort { by, reversed } = self.sort();
        let is_text = matches!(by, What::Name | What::Role | What::State | What::Version);
        lines.sort_by(|one, other| {
            let order = one.compare(other, by);
            // The largest numbers are what one looks for.
            let order = if is_text == reversed { order.reverse() } else { order };
            order.then_with(|| one.name.cmp(&other.name))
        });
        lines
    }

    /// What a screen of this size shows.
    pub fn page(&self, width: u16, height: u16) -> Page {
        let columns = self.columns(width);
        let lines = self.lines();
        let room = usize::from(height.saturating_sub(FIXED_LINES));
        let above = self.above.min(lines.len().saturating_sub(room));
        let row = |line: &Line| Row {
            cells: columns.iter().map(|(column, ..)| line.cell(column.what)).collect(),
            alarming: line.alarming,
        };
        let rows: Vec<_> = lines.iter().skip(above).take(room).map(row).collect();
        let mut place = match rows.len() {
            shown if shown == lines.len() => String::new(),
            shown => format!("{} to {} of {}", above + 1, above + shown, lines.len()),
        };
        if self.typing || !self.filter.is_empty() {
            let cursor = if self.typing { "_" } else { "" };
            place = format!("/{}{cursor}  {place}", self.filter);
        }
        let foot = match &self.trouble {
            Some(why) => Foot::Trouble(why.clone()),
            None => Foot::Help(if self.typing { HELP_TYPING } else { HELP }),
        };
        Page { title: self.title(), view: self.view, place, columns, rows, foot }
    }

    /// The columns for which there is room. The first takes what is left.
    fn columns(&self, width: u16) -> Vec<(Column, u16, bool)> {
        let by = self.sort().by;
        let (mut shown, mut left) = (Vec::new(), width);
        for spare in [false, true] {
            for column in self.view.columns().iter().filter(|column| column.spare == spare) {
                let takes = column.width + u16::from(!shown.is_empty());
                if takes <= left {
                    left -= takes;
                    shown.push((*column, column.width, column.what == by));
                }
            }
        }
        if let Some((_, width, _)) = shown.first_mut() {
            *width += left;
        }
        shown
    }

    fn title(&self) -> String {
        let Figures { over, nodes, apps, .. } = &self.figures;
        if self.latest.is_none() {
            return "tidegate top: nobody has answered yet".to_owned();
        }
        let silent = nodes.iter().filter(|node| node.silent.is_some()).count();
        let silent = if silent > 0 { format!(" ({silent} silent)") } else { String::new() };
        let clients: u64 = apps.iter().map(|app| app.load.clients).sum();
        let events: f64 = apps.iter().map(|app| app.load.events_per_s).sum();
        let turns: f64 = apps.iter().map(|app| app.load.turns_per_s).sum();
        let rates = match over {
            Some(over) => format!("{events:.0} events/s, {turns:.0} turns/s in {:.1} s", over.as_secs_f64()),
            None => "rates in a moment".to_owned(),
        };
        let plural = |one: bool| if one { "" } else { "s" };
        let nodes = format!("{}{silent} node{}", nodes.len(), plural(nodes.len() == 1));
        let apps = format!("{} app{}", apps.len(), plural(apps.len() == 1));
        format!("{nodes}, {apps}, {clients} client{}; {rates}", plural(clients == 1))
    }
}

/// Above and below the rows: the title, the views, the heads of the columns; the help.
const FIXED_LINES: u16 = 4;
const PAGE_LINES: usize = 10;
/// More than a name of an app has.
const FILTER_MAX: usize = 128;
const HELP: &str = "q quit  Tab view  s sort by  r reverse  / filter  Esc all  Up Down PgUp PgDn";
const HELP_TYPING: &str = "type a part of a name; Enter keeps it, Esc clears it";

#[cfg(test)]
pub(super) mod tests {
    use super::super::figures::tests::{app, heard, ms};
    use super::*;

    /// Two looks at a node, a second apart, with so many apps: each does ten turns a second more than the one before.
    pub fn busy(apps: u64) -> Top {
        let mut top = Top::new(View::Apps, "");
        for second in 1..=2 {
            let apps = (0..apps).map(|n| app(&format!("acme/app-{n:02}"), n * 10 * second));
            top.on_sample(Sample {
                at: ms(second * 1000),
                nodes: vec![heard("node-1", 1, second * 500, apps.collect())],
            });
        }
        top
    }

    fn names(top: &Top) -> Vec<String> {
        top.page(80, 24).rows.iter().map(|row| row.cells[0].clone()).collect()
    }

    fn types(top: &mut Top, text: &str) {
        text.chars().for_each(|c| assert_eq!(top.on_key(Key::Char(c)), Then::GoOn));
    }

    #[test]
    fn the_busiest_app_is_first_and_keys_choose_another_order() {
        let mut top = busy(3);
        assert_eq!(names(&top), ["acme/app-02", "acme/app-01", "acme/app-00"]);
        types(&mut top, "r");
        assert_eq!(names(&top)[0], "acme/app-00");
        // To the first column, and round.
        while !top.page(80, 24).columns[0].2 {
            types(&mut top, "s");
        }
        assert_eq!(names(&top)[0], "acme/app-00");
        types(&mut top, "S");
        let sorted =
            top.page(120, 24).columns.iter().find(|(.., sorted)| *sorted).map(|(column, ..)| column.title);
        assert_eq!(sorted, View::Apps.columns().last().map(|column| column.title));
    }

    #[test]
    fn tab_goes_round_the_views_and_each_keeps_its_order() {
        let mut top = busy(2);
        let view = |top: &Top| top.page(80, 24).view;
        types(&mut top, "r");
        for expected in [View::Nodes, View::Tenants, View::Apps] {
            top.on_key(Key::Tab);
            assert_eq!(view(&top), expected);
        }
        assert_eq!(names(&top)[0], "acme/app-00", "it is still reversed");
        top.on_key(Key::BackTab);
        assert_eq!((view(&top), names(&top)), (View::Tenants, vec!["acme".to_owned()]));
        top.on_key(Key::BackTab);
        let page = top.page(80, 24);
        assert_eq!(page.rows[0].cells[..3], ["node-1", "worker", "ready"]);
        assert!(page.rows[0].cells.contains(&"50.0".to_owned()), "half a core: {:?}", page.rows);
    }

    #[test]
    fn a_filter_is_typed_kept_and_cleared() {
        let mut top = busy(12);
        types(&mut top, "/APP-1q");
        assert_eq!((names(&top).len(), top.page(80, 24).foot), (0, Foot::Help(HELP_TYPING)));
        top.on_key(Key::Backspace);
        assert_eq!(names(&top), ["acme/app-11", "acme/app-10"]);
        assert_eq!(top.page(80, 24).place.trim(), "/app-1_");
        top.on_key(Key::Enter);
        assert_eq!(top.page(80, 24).place.trim(), "/app-1");
        top.on_key(Key::Escape);
        assert_eq!(names(&top).len(), 12);
        types(&mut top, "/x");
        assert_eq!(top.on_key(Key::Interrupt), Then::Quit, "also while one types");
        top.on_key(Key::Escape);
        assert_eq!(top.on_key(Key::Char('q')), Then::Quit);
    }

    #[test]
    fn what_has_no_room_is_scrolled_to() {
        let mut top = busy(50);
        let place = |top: &Top| top.page(80, 24).place;
        assert_eq!((place(&top), names(&top).len()), ("1 to 20 of 50".to_owned(), 20));
        top.on_key(Key::PageDown);
        top.on_key(Key::Down);
        assert_eq!(place(&top), "12 to 31 of 50");
        top.on_key(Key::End);
        assert_eq!(place(&top), "31 to 50 of 50");
        top.on_key(Key::Home);
        top.on_key(Key::Up);
        assert_eq!(place(&top), "1 to 20 of 50");
        // A terminal of any size will do.
        for (width, height) in [(0, 0), (1, 1), (10, 3), (79, 4), (400, 200)] {
            let page = top.page(width, height);
            assert_eq!(page.rows.len(), 50.min(usize::from(height.saturating_sub(4))));
            let taken: u16 = page.columns.iter().map(|(_, width, _)| width + 1).sum();
            assert!(taken <= width + 1, "{width}: {taken}");
        }
    }

    #[test]
    fn trouble_is_told_until_somebody_answers_and_what_was_heard_stays() {
        let mut top = Top::new(View::Apps, "");
        top.on_trouble("no node runs".to_owned());
        let page = top.page(80, 24);
        assert_eq!(
            (page.foot, page.title.contains("nobody has answered")),
            (Foot::Trouble("no node runs".into()), true)
        );
        let mut top = busy(1);
        top.on_trouble("no node runs".to_owned());
        assert_eq!(names(&top), ["acme/app-00"]);
        top.on_sample(Sample { at: ms(9000), nodes: Vec::new() });
        assert_eq!(top.page(80, 24).foot, Foot::Help(HELP));
    }
}
