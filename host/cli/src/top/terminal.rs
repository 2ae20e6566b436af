//! The terminal: as it was before, however this ends.

use std::io;

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::crossterm::{cursor, execute};
use tokio::sync::mpsc;

use super::draw::draw;
use super::state::{Key, Top};

/// A screen of its own. The terminal has its own one back when this is dropped, and when something panics.
pub(crate) struct Screen {
    terminal: Terminal<CrosstermBackend<io::Stdout>>,
}

impl Screen {
    pub fn open() -> io::Result<Self> {
        let before = std::panic::take_hook();
        // First, so that what it says can be read.
        std::panic::set_hook(Box::new(move |info| {
            restore();
            before(info);
        }));
        enable_raw_mode()?;
        // From here on there is something to give back.
        let screen = Terminal::new(CrosstermBackend::new(io::stdout())).map(|terminal| Self { terminal });
        let entered = execute!(io::stdout(), EnterAlternateScreen, cursor::Hide);
        if screen.is_err() || entered.is_err() {
            restore();
        }
        entered.and(screen)
    }

    pub fn draw(&mut self, top: &Top) -> io::Result<()> {
        self.terminal.draw(|frame| {
            let area = frame.area();
            draw(frame, &top.page(area.width, area.height));
        })?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Nothing can be done about a terminal that does not take it.
fn restore() {
    let _ = disable_raw_mode();
    let _ = execute!(io::stdout(), LeaveAlternateScreen, cursor::Show);
}

/// What comes from the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Key(Key),
    Resized,
}

/// Reads on a thread of its own, until the terminal or whoever listens is gone.
pub(crate) fn events() -> io::Result<mpsc::Receiver<Event>> {
    let (tx, rx) = mpsc::channel(EVENTS_MAX);
    let read = move || {
        while let Ok(event) = event::read() {
            let event = match event {
                event::Event::Key(key) => key_of(key).map(Event::Key),
                event::Event::Resize(..) => Some(Event::Resized),
                _ => None,
            };
            if event.is_some_and(|event| tx.blocking_send(event).is_err()) {
                return;
            }
        }
    };
    std::thread::Builder::new().name("tidegate-top-keys".to_owned()).spawn(read)?;
    Ok(rx)
}

fn key_of(key: KeyEvent) -> Option<Key> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    Some(match key.code {
        KeyCode::Char('c') if control => Key::Interrupt,
        KeyCode::Char(_) if control => return None,
        KeyCode::Char(c) => Key::Char(c),
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Tab => Key::Tab,
        KeyCode::BackTab => Key::BackTab,
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        _ => return None,
    })
}

/// Keys that wait for one drawing.
const EVENTS_MAX: usize = 64;
