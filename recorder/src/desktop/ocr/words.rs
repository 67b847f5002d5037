//! What a program read: Tesseract's table of words, one a line, tab between its columns.

use super::picture::Grey;

/// Words that the program is less sure of are left out, percent.
const SURE: f32 = 30.0;
/// Longest line that is kept, in bytes.
const LONG: usize = 1000;
/// Most lines of one picture.
const MOST: usize = 2000;
/// A word's level in the table.
const WORD: &str = "5";

/// A line of text and where it stood on the desktop, in pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) left: usize,
    pub(super) top: usize,
    pub(super) right: usize,
    pub(super) bottom: usize,
    pub(super) text: String,
}

/// The lines of a table; what is no word is passed over.
pub(super) fn lines_of(table: &[u8], picture: &Grey) -> Vec<Line> {
    let table = String::from_utf8_lossy(table);
    let mut lines: Vec<Line> = Vec::new();
    let mut current = None;
    for (number, word) in table.lines().filter_map(|row| word(row, picture)) {
        let full = lines.len() >= MOST;
        match lines.last_mut().filter(|_| current == Some(number)) {
            Some(line) if line.text.len() + word.text.len() < LONG => {
                line.text.push(' ');
                line.text.push_str(&word.text);
                line.left = line.left.min(word.left);
                line.top = line.top.min(word.top);
                line.right = line.right.max(word.right);
                line.bottom = line.bottom.max(word.bottom);
            }
            _ if full => break,
            _ => {
                current = Some(number);
                lines.push(word);
            }
        }
    }
    lines
}

/// A word, and the page, block, paragraph and line that it stands in.
fn word<'t>(row: &'t str, picture: &Grey) -> Option<([&'t str; 4], Line)> {
    let mut columns = row.splitn(12, '\t');
    let level = columns.next()?;
    let [page, block, paragraph, line, _] = std::array::from_fn(|_| columns.next().unwrap_or_default());
    let [left, top, width, height] = std::array::from_fn(|_| columns.next()?.parse::<usize>().ok());
    let sure: f32 = columns.next()?.parse().ok()?;
    let text: String = columns.next()?.trim().chars().filter(|c| !c.is_control()).collect();
    if level != WORD || sure.is_nan() || sure < SURE || text.is_empty() || text.len() > LONG {
        return None;
    }
    let (left, top) = (left?, top?);
    let (right, bottom) = (left.checked_add(width?)?, top.checked_add(height?)?);
    if !picture.holds(right, bottom) {
        return None;
    }
    let ((left, top), (right, bottom)) = (picture.place(left, top), picture.place(right, bottom));
    // The smallest word has one pixel.
    let word = Line { left, top, right: right.max(left + 1), bottom: bottom.max(top + 1), text };
    Some(([page, block, paragraph, line], word))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "level\tpage_num\tblock_num\tpar_num\tline_num\tword_num\tleft\ttop\twidth\theight\tconf\ttext\n";

    #[test]
    fn words_of_a_line_stand_together_where_they_stood_on_the_desktop() {
        let table = format!(
            "{HEAD}1\t1\t0\t0\t0\t0\t0\t0\t400\t200\t-1\t\n\
             5\t1\t1\t1\t1\t1\t20\t40\t60\t20\t96.1\tvalve\n\
             5\t1\t1\t1\t1\t2\t90\t42\t60\t22\t91\topen\u{7}\n\
             5\t1\t1\t1\t1\t3\t160\t42\t60\t22\t29.9\tguess\n\
             5\t1\t1\t1\t2\t1\t20\t80\t60\t20\t80\t \n\
             5\t1\t2\t1\t1\t1\t20\t80\t60\t20\t80\tPumpe ä\n"
        );
        let lines = lines_of(table.as_bytes(), &Grey::blank(400, 200, 100, 2));
        let line =
            |left, top, right, bottom, text: &str| Line { left, top, right, bottom, text: text.into() };
        assert_eq!(lines, [line(10, 120, 75, 132, "valve open"), line(10, 140, 40, 150, "Pumpe ä")]);
    }

    #[test]
    fn a_table_that_lies_makes_no_line_outside_the_picture_and_no_long_one() {
        let picture = Grey::blank(400, 200, 0, 1);
        let row = |rest: &str| format!("5\t1\t1\t1\t1\t1\t{rest}\n");
        for lie in [
            "390\t10\t20\t5\t90\tx",
            "1\t1\t18446744073709551615\t5\t90\tx",
            "1\t1\t5\t-5\t90\tx",
            "1\t1\t5\t5\tNaN\tx",
            "1\t1\t5",
            "",
        ] {
            assert_eq!(lines_of(row(lie).as_bytes(), &picture), [], "{lie}");
        }
        let many = row("1\t1\t5\t5\t90\tword").repeat(10_000);
        let lines = lines_of(many.as_bytes(), &picture);
        assert!(lines.len() < 60 && lines.iter().all(|line| line.text.len() < LONG), "{}", lines.len());
        let others: String = (0..5000).map(|n| format!("5\t1\t{n}\t1\t1\t1\t1\t1\t5\t5\t90\tx\n")).collect();
        assert_eq!(lines_of(others.as_bytes(), &picture).len(), MOST);
        assert_eq!(lines_of(&[0xff, 9, 9, 9, 0xff, 10], &picture), []);
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_program_says_its_lines_lie_in_the_picture(rows in proptest::collection::vec("(5\t)?[0-9\t.x-]{0,40}\tword", 0..40)) {
            let picture = Grey::blank(400, 200, 30, 2);
            for line in lines_of(rows.join("\n").as_bytes(), &picture) {
                assert!(line.left < line.right && line.right <= 201 && line.top < line.bottom && line.bottom <= 131, "{line:?}");
            }
        }
    }
}
