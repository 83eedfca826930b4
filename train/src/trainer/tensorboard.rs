//! TensorBoard's event files: TFRecord framing around protocol buffers, of which scalars need little.
//!
//! The formats are those of TensorFlow's `event.proto` and `record_writer.cc`. No maintained crate
//! writes them.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    session_log: Option<SessionLog>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    /// Optional, so that a zero is written, too.
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// `SessionLog.START`: what other files of the folder say of later steps is void.
const START: i32 = 1;

/// One event file.
pub(super) struct EventFile {
    out: BufWriter<File>,
}

impl EventFile {
    /// Begins a file in `folder` that goes on from `step`.
    pub(super) fn create(folder: &Path, step: u64) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let seconds = now().as_secs();
        let file = File::create(folder.join(format!("events.out.tfevents.{seconds:010}.{step}")))?;
        let mut events = Self {
            out: BufWriter::new(file),
        };
        events.write(&Event {
            file_version: Some("brain.Event:2".into()),
            ..event(0)
        })?;
        if step > 0 {
            events.write(&Event {
                session_log: Some(SessionLog { status: START }),
                ..event(step)
            })?;
        }
        Ok(events)
    }

    /// Writes scalars of one step.
    pub(super) fn scalars(&mut self, step: u64, scalars: &[(String, f64)]) -> io::Result<()> {
        let value = scalars.iter().map(|(tag, value)| Value {
            tag: tag.clone(),
            simple_value: Some(*value as f32),
        });
        self.write(&Event {
            summary: Some(Summary {
                value: value.collect(),
            }),
            ..event(step)
        })
    }

    /// A record: length, its checksum, data, its checksum.
    fn write(&mut self, event: &Event) -> io::Result<()> {
        let data = event.encode_to_vec();
        let length = (data.len() as u64).to_le_bytes();
        self.out.write_all(&length)?;
        self.out.write_all(&masked_crc(&length))?;
        self.out.write_all(&data)?;
        self.out.write_all(&masked_crc(&data))?;
        self.out.flush()
    }
}

fn event(step: u64) -> Event {
    Event {
        wall_time: now().as_secs_f64(),
        step: step as i64,
        ..Event::default()
    }
}

fn now() -> std::time::Duration {
    // A clock before 1970 is wrong anyway.
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// TFRecord masks its checksums, so that a record may hold records.
fn masked_crc(data: &[u8]) -> [u8; 4] {
    let crc = crc32c::crc32c(data);
    crc.rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}
