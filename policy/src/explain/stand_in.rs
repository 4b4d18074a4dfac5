//! Finds a field by its name alone, until the marked parse of `yaml` is there.

use crate::source::{FieldPath, Position, Step};

pub fn locate(text: &str, document_index: u32, path: &FieldPath) -> Position {
    let mut index = 0;
    let mut last = Position { line: 1, column: 1 };
    let mut wanted = path.0.iter().filter_map(|step| match step {
        Step::Field(name) => Some(name),
        Step::Index(_) => None,
    });
    let mut next = wanted.next();
    for (at, line) in text.lines().enumerate() {
        if line.starts_with("---") && at > 0 {
            index += 1;
        }
        let Some(name) = next.filter(|_| index == document_index) else {
            continue;
        };
        if let Some(column) = line.find(&format!("{name}:")) {
            last = Position {
                line: at as u32 + 1,
                column: column as u32 + 1,
            };
            next = wanted.next();
        }
    }
    last
}
