//! A page, drawn.

use ratatui::Frame;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::columns::{Column, View, What};
use super::state::{Foot, Page, Row};

/// Fills the screen.
pub(crate) fn draw(frame: &mut Frame<'_>, page: &Page) {
    let area = frame.area();
    let mut lines = vec![Line::styled(page.title.clone(), bold()), views(page), heads(page)];
    lines.extend(page.rows.iter().map(|row| line_of(row, page)));
    // The help is in the last line, however few rows there are.
    lines.truncate(usize::from(area.height.saturating_sub(1)));
    lines.resize(usize::from(area.height.saturating_sub(1)), Line::default());
    lines.push(match &page.foot {
        Foot::Help(help) => Line::styled(*help, Style::new().add_modifier(Modifier::DIM)),
        Foot::Trouble(why) => {
            Line::styled(why.lines().collect::<Vec<_>>().join(" "), Style::new().fg(Color::Red))
        }
    });
    frame.render_widget(Paragraph::new(lines), area);
}

fn views(page: &Page) -> Line<'static> {
    let mut spans = Vec::new();
    for view in View::ALL {
        let style = if view == page.view { bold().add_modifier(Modifier::UNDERLINED) } else { Style::new() };
        spans.extend([Span::styled(view.name(), style), Span::raw("  ")]);
    }
    spans.push(Span::raw(page.place.clone()));
    Line::from(spans)
}

fn heads(page: &Page) -> Line<'static> {
    let mut spans = Vec::new();
    for (at, (column, width, sorted)) in page.columns.iter().enumerate() {
        let style = Style::new().add_modifier(Modifier::REVERSED);
        let style = if *sorted { style.add_modifier(Modifier::BOLD | Modifier::UNDERLINED) } else { style };
        let gap = if at == 0 { "" } else { " " };
        spans.push(Span::styled(gap, Style::new().add_modifier(Modifier::REVERSED)));
        spans.push(Span::styled(cell(column, column.title, *width), style));
    }
    Line::from(spans)
}

fn line_of(row: &Row, page: &Page) -> Line<'static> {
    let cells = row.cells.iter().zip(&page.columns);
    let cells: Vec<_> = cells.map(|(text, (column, width, _))| cell(column, text, *width)).collect();
    let style = if row.alarming { Style::new().fg(Color::Red) } else { Style::new() };
    Line::styled(cells.join(" "), style)
}

/// Words to the left, numbers to the right; what does not fit is cut off.
fn cell(column: &Column, text: &str, width: u16) -> String {
    let width = usize::from(width);
    let text: String = text.chars().take(width).collect();
    match column.what {
        What::Name | What::Role | What::State => format!("{text:width$}"),
        _ => format!("{text:>width$}"),
    }
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::state::tests::busy;
    use super::super::state::{Key, Top};
    use super::*;

    fn screen(top: &Top, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, &top.page(width, height))).unwrap();
        let buffer = terminal.backend().buffer();
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..height).map(row).collect()
    }

    #[test]
    fn a_screen_of_80_by_24_shows_apps_with_their_figures_and_the_keys() {
        let mut top = busy(30);
        let lines = screen(&top, 80, 24);
        assert_eq!(lines[0], "1 node, 30 apps, 210 clients; 4350 events/s, 4350 turns/s in 1.0 s");
        assert_eq!(lines[1], "nodes  tenants  apps  1 to 20 of 30");
        assert_eq!(
            lines[2],
            "APP               VER CLIENTS   EV/S TURN/S   T50   T99   Q99  CPU%   MEM FAILED"
        );
        assert_eq!(
            lines[3],
            "acme/app-29         3       7    290    290  30us  30us     -  29.0    1M     58"
        );
        assert!(lines[22].starts_with("acme/app-10 "), "{lines:#?}");
        assert!(lines[23].starts_with("q quit  Tab view"), "{lines:#?}");
        top.on_key(Key::Tab);
        let lines = screen(&top, 80, 24);
        assert_eq!(
            lines[2],
            "NODE           ROLE     STATE        UP CLIENTS   EV/S TURN/S  CPU%   MEM FAILED"
        );
        assert_eq!(
            lines[3],
            "node-1         worker   ready        5s     210   4350   4350  50.0   64M    870"
        );
        assert!(lines[4..23].iter().all(String::is_empty));
    }

    #[test]
    fn trouble_stands_in_the_last_line_and_tiny_screens_do_no_harm() {
        let mut top = busy(3);
        top.on_trouble("no node runs with\nthe data folder".to_owned());
        assert_eq!(screen(&top, 80, 24)[23], "no node runs with the data folder");
        for (width, height) in [(1, 1), (5, 2), (20, 3), (300, 5)] {
            assert_eq!(screen(&top, width, height).len(), usize::from(height));
        }
    }
}
