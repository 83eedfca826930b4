//! Segments of any words and times, written in every format and read again.

use sori::output::{Format, TranscriptWriter};
use sori::{Segment, Word};

pub fn run(data: &[u8]) {
    let segments = segments(data);
    let words: Vec<&str> = segments
        .iter()
        .flat_map(|segment| &segment.words)
        .map(|word| word.word.as_str())
        .collect();

    let text = write(Format::Text, &segments);
    assert_eq!(text.split_ascii_whitespace().collect::<Vec<_>>(), words);
    assert_eq!(text.lines().count(), segments.len());

    for line in write(Format::Jsonl, &segments).lines() {
        serde_json::from_str::<serde_json::Value>(line).expect("a line of JSON");
    }
    let json = write(Format::Json, &segments);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let said: Vec<&str> = json["segments"]
        .as_array()
        .expect("segments")
        .iter()
        .flat_map(|segment| segment["words"].as_array().expect("words"))
        .map(|word| word["word"].as_str().expect("a word"))
        .collect();
    assert_eq!(said, words);

    for (format, point) in [(Format::Srt, ','), (Format::Vtt, '.')] {
        let text = write(format, &segments);
        assert_eq!(read(&text, format, point), words, "{text}");
    }
}

fn write(format: Format, segments: &[Segment]) -> String {
    let mut out = Vec::new();
    let mut writer = TranscriptWriter::new(format, "file", &mut out).expect("memory");
    for segment in segments {
        writer.segment(segment.clone()).expect("memory");
    }
    writer.finish(1.0).expect("memory");
    String::from_utf8(out).expect("text")
}

/// The words of subtitles, by the rules of their readers: blocks apart by an empty line, of a number
/// (in SRT), a line of times, and text.
fn read(text: &str, format: Format, point: char) -> Vec<String> {
    let text = match format {
        Format::Vtt => text.strip_prefix("WEBVTT\n").expect("the first line"),
        _ => text,
    };
    let mut words = Vec::new();
    let mut last = 0;
    let blocks = text.split("\n\n").map(|block| block.trim_matches('\n'));
    for (block, number) in blocks.filter(|block| !block.is_empty()).zip(1..) {
        let mut lines = block.split('\n');
        if format == Format::Srt {
            assert_eq!(lines.next(), Some(number.to_string().as_str()));
        }
        let (start, end) = lines
            .next()
            .and_then(|line| line.split_once(" --> "))
            .expect("a line of times");
        let (start, end) = (milliseconds(start, point), milliseconds(end, point));
        assert!(last <= start && start <= end, "{last}, {start}, {end}");
        last = end;
        for line in lines {
            assert!(format == Format::Srt || !line.contains("-->"));
            let line = match format {
                Format::Vtt => line
                    .replace("&lt;", "<")
                    .replace("&gt;", ">")
                    .replace("&amp;", "&"),
                _ => line.to_owned(),
            };
            words.extend(line.split(' ').map(str::to_owned));
        }
    }
    words
}

fn milliseconds(time: &str, point: char) -> u64 {
    let (seconds, ms) = time.split_once(point).expect("milliseconds");
    assert_eq!(ms.len(), 3);
    let mut fields = seconds.split(':').map(|field| {
        assert!(field.len() >= 2);
        field.parse::<u64>().expect("a number")
    });
    let mut field = || fields.next().expect("three numbers");
    let (h, m, s) = (field(), field(), field());
    assert!(m < 60 && s < 60);
    ((h * 60 + m) * 60 + s) * 1000 + ms.parse::<u64>().expect("a number")
}

/// Words as a recogniser may give them: any text without white space and control characters, which no
/// token has, in order of time. A byte from 0 to 15 ends a segment, one up to 31 a word.
fn segments(data: &[u8]) -> Vec<Segment> {
    let text = String::from_utf8_lossy(data);
    let mut segments: Vec<Segment> = Vec::new();
    let mut words: Vec<Word> = Vec::new();
    let mut spelling = String::new();
    let mut time = 0.0;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let ends =
            letter.is_control() || letter.is_whitespace() || "\u{2028}\u{2029}".contains(letter);
        if !ends {
            spelling.push(letter);
        }
        if (ends || letters.peek().is_none()) && !spelling.is_empty() {
            // From nothing to hours.
            let pause = f64::from(letter as u32 % 256).powi(2) / 100.0;
            let start: f64 = time + pause;
            time = start + f64::from(letter as u32 % 32) * 0.04;
            words.push(Word {
                word: std::mem::take(&mut spelling),
                start,
                end: time,
                confidence: 0.5,
            });
        }
        let over = (letter as u32) < 16 || letters.peek().is_none();
        if over && let (Some(first), Some(last)) = (words.first(), words.last()) {
            let texts: Vec<&str> = words.iter().map(|word| word.word.as_str()).collect();
            segments.push(Segment {
                start: first.start,
                end: last.end,
                text: texts.join(" "),
                confidence: 0.5,
                tokens: Vec::new(),
                alternatives: Vec::new(),
                raw_text: None,
                out_of_grammar: false,
                words: std::mem::take(&mut words),
            });
        }
    }
    segments
}
