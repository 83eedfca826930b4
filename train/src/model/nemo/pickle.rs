//! The index of a PyTorch checkpoint: a pickle that says which tensors there are.
//!
//! A pickle is a program, and Python's reader runs whatever it calls. This one knows the few
//! instructions that `torch.save` writes for tensors by name (protocol 2), calls nothing, and keeps
//! nothing else. Values are shared, never copied, so that memory stays in proportion to the input.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use tch::Kind;

/// Where a tensor's values lie.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    /// The file of its storage, below `data/`.
    pub(super) storage: Rc<str>,
    pub(super) kind: Kind,
    /// First value in the storage.
    pub(super) offset: i64,
    pub(super) size: Vec<i64>,
    pub(super) stride: Vec<i64>,
}

/// Tensors by name.
pub(super) type Tensors = BTreeMap<Rc<str>, Rc<Entry>>;

/// A pickled value, as far as a table of tensors needs it.
#[derive(Debug, Clone)]
enum Value {
    Int(i64),
    Text(Rc<str>),
    Tuple(Rc<[Value]>, Depth),
    Table(Rc<RefCell<Tensors>>),
    Class(Rc<str>),
    Storage(Rc<str>, Kind),
    Tensor(Rc<Entry>),
    /// A number or a flag that says nothing about tensors.
    Other,
}

/// How deep tuples are nested in one.
type Depth = u8;

/// Deeper tuples than a tensor's arguments have are refused: freeing them would recurse.
const DEEPEST: Depth = 8;

/// No weight of a model has more dimensions.
const MOST_DIMS: usize = 8;

/// Reads the table of tensors that the pickle builds.
pub(super) fn read(pickle: &[u8]) -> Result<Tensors, String> {
    Machine {
        input: pickle,
        at: 0,
        stack: vec![],
        marks: vec![],
        memo: HashMap::new(),
    }
    .run()
}

struct Machine<'a> {
    input: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    /// Heights of the stack that were marked.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
}

impl Machine<'_> {
    fn run(mut self) -> Result<Tensors, String> {
        loop {
            let start = self.at;
            match self.step() {
                Ok(false) => {}
                Ok(true) => break,
                Err(reason) => return Err(format!("data.pkl at byte {start}: {reason}")),
            }
        }
        match self.stack.pop() {
            Some(Value::Table(table)) => Ok(table.take()),
            _ => Err("data.pkl is no table of tensors by name".into()),
        }
    }

    /// Runs one instruction; `true` after the last.
    fn step(&mut self) -> Result<bool, String> {
        match self.byte()? {
            b'.' => return Ok(true),
            // PROTO
            0x80 => {
                self.byte()?;
            }
            b'(' => self.marks.push(self.stack.len()),
            b'N' | 0x88 | 0x89 => self.stack.push(Value::Other),
            // BINFLOAT
            b'G' => {
                self.bytes(8)?;
                self.stack.push(Value::Other);
            }
            b'K' => {
                let value = self.byte()?.into();
                self.stack.push(Value::Int(value));
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?).into();
                self.stack.push(Value::Int(value));
            }
            b'J' => {
                let value = i32::from_le_bytes(self.array()?).into();
                self.stack.push(Value::Int(value));
            }
            // LONG1: a little-endian number in two's complement of so many bytes.
            0x8a => {
                let count = self.byte()?.into();
                let value = long(self.bytes(count)?)?;
                self.stack.push(Value::Int(value));
            }
            // BINUNICODE
            b'X' => {
                let count = u32::from_le_bytes(self.array()?) as usize;
                let text = utf8(self.bytes(count)?)?.into();
                self.stack.push(Value::Text(text));
            }
            b'c' => {
                let class = format!("{}.{}", self.line()?, self.line()?).into();
                self.stack.push(Value::Class(class));
            }
            b'}' => self.stack.push(Value::Table(Rc::default())),
            b')' => self.push_tuple(0)?,
            0x85 => self.push_tuple(1)?,
            0x86 => self.push_tuple(2)?,
            0x87 => self.push_tuple(3)?,
            b't' => {
                let count = self.above_mark()?;
                self.push_tuple(count)?;
            }
            b'q' => {
                let key = self.byte()?.into();
                self.memorise(key)?;
            }
            b'r' => {
                let key = u32::from_le_bytes(self.array()?);
                self.memorise(key)?;
            }
            b'h' => {
                let key = self.byte()?.into();
                self.recall(key)?;
            }
            b'j' => {
                let key = u32::from_le_bytes(self.array()?);
                self.recall(key)?;
            }
            b's' => self.set_items(2)?,
            b'u' => {
                let count = self.above_mark()?;
                self.set_items(count)?;
            }
            // BUILD: a table's attributes, which hold no tensors.
            b'b' => {
                self.pop()?;
            }
            // BINPERSID
            b'Q' => {
                let storage = storage(&self.pop()?)?;
                self.stack.push(storage);
            }
            // REDUCE
            b'R' => {
                let arguments = self.pop()?;
                let value = call(&self.pop()?, &arguments)?;
                self.stack.push(value);
            }
            other => {
                return Err(format!(
                    "instruction {other:#04x} has no place in a table of tensors"
                ));
            }
        }
        Ok(false)
    }

    fn bytes(&mut self, count: usize) -> Result<&[u8], String> {
        let rest = self.input.get(self.at..).unwrap_or_default();
        let bytes = rest.get(..count).ok_or("the pickle ends too early")?;
        self.at += count;
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.array::<1>()?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    fn line(&mut self) -> Result<String, String> {
        let rest = self.input.get(self.at..).unwrap_or_default();
        let length = rest
            .iter()
            .position(|&b| b == b'\n')
            .ok_or("a name without an end")?;
        let line = utf8(&rest[..length])?.to_owned();
        self.at += length + 1;
        Ok(line)
    }

    fn pop(&mut self) -> Result<Value, String> {
        // What lies below the last mark belongs to whoever set the mark.
        if self.stack.len() <= self.marks.last().copied().unwrap_or(0) {
            return Err("a value is missing from the stack".into());
        }
        self.stack.pop().ok_or_else(|| "the stack is empty".into())
    }

    /// Takes the last mark away and counts what lies above it.
    fn above_mark(&mut self) -> Result<usize, String> {
        let mark = self.marks.pop().ok_or("no mark was set")?;
        Ok(self.stack.len() - mark)
    }

    fn take(&mut self, count: usize) -> Result<Vec<Value>, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.len().checked_sub(count) {
            Some(at) if at >= floor => Ok(self.stack.split_off(at)),
            _ => Err("values are missing from the stack".into()),
        }
    }

    fn push_tuple(&mut self, count: usize) -> Result<(), String> {
        let values = self.take(count)?;
        let inner = values.iter().filter_map(|value| match value {
            Value::Tuple(_, depth) => Some(*depth),
            _ => None,
        });
        let depth = 1 + inner.max().unwrap_or(0);
        if depth > DEEPEST {
            return Err(format!("tuples nested more than {DEEPEST} deep"));
        }
        self.stack.push(Value::Tuple(values.into(), depth));
        Ok(())
    }

    fn memorise(&mut self, key: u32) -> Result<(), String> {
        let value = self.stack.last().ok_or("nothing to memorise")?.clone();
        self.memo.insert(key, value);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Result<(), String> {
        let value = self
            .memo
            .get(&key)
            .ok_or_else(|| format!("nothing was memorised as {key}"))?;
        self.stack.push(value.clone());
        Ok(())
    }

    /// Puts the top `count` values, keys and values in turn, into the table below them.
    fn set_items(&mut self, count: usize) -> Result<(), String> {
        let items = self.take(count)?;
        let Some(Value::Table(table)) = self.stack.last() else {
            return Err("items without a table".into());
        };
        for pair in items.chunks(2) {
            if let [Value::Text(name), Value::Tensor(entry)] = pair {
                table.borrow_mut().insert(Rc::clone(name), Rc::clone(entry));
            }
        }
        Ok(())
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| "text that is not UTF-8".into())
}

fn long(bytes: &[u8]) -> Result<i64, String> {
    let sign = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) {
        0xff
    } else {
        0
    };
    let mut full = [sign; 8];
    full.get_mut(..bytes.len())
        .ok_or("a number above 64 bits")?
        .copy_from_slice(bytes);
    Ok(i64::from_le_bytes(full))
}

/// A persistent id: `("storage", class, file, device, count)`.
fn storage(id: &Value) -> Result<Value, String> {
    let Value::Tuple(id, _) = id else {
        return Err("a storage without its description".into());
    };
    let [Value::Text(tag), Value::Class(class), Value::Text(file), ..] = &id[..] else {
        return Err("a storage without its class and file".into());
    };
    if &**tag != "storage" {
        return Err(format!("expected a storage, found {tag:?}"));
    }
    let kind = match &**class {
        "torch.FloatStorage" => Kind::Float,
        "torch.DoubleStorage" => Kind::Double,
        "torch.HalfStorage" => Kind::Half,
        "torch.BFloat16Storage" => Kind::BFloat16,
        "torch.LongStorage" => Kind::Int64,
        other => return Err(format!("a storage of type {other}")),
    };
    Ok(Value::Storage(Rc::clone(file), kind))
}

/// The calls that `torch.save` writes for a table of tensors.
fn call(class: &Value, arguments: &Value) -> Result<Value, String> {
    let (Value::Class(class), Value::Tuple(arguments, _)) = (class, arguments) else {
        return Err("a call of what is no class".into());
    };
    match (&**class, &arguments[..]) {
        ("collections.OrderedDict", []) => Ok(Value::Table(Rc::default())),
        ("torch._utils._rebuild_parameter", [tensor @ Value::Tensor(_), ..]) => Ok(tensor.clone()),
        (
            "torch._utils._rebuild_tensor_v2",
            [
                Value::Storage(storage, kind),
                Value::Int(offset),
                Value::Tuple(size, _),
                Value::Tuple(stride, _),
                ..,
            ],
        ) => Ok(Value::Tensor(Rc::new(Entry {
            storage: Rc::clone(storage),
            kind: *kind,
            offset: *offset,
            size: integers(size)?,
            stride: integers(stride)?,
        }))),
        (other, _) => Err(format!("a call of {other}, which is refused")),
    }
}

/// A size or a stride.
fn integers(values: &[Value]) -> Result<Vec<i64>, String> {
    // A long one that many tensors share would be copied for each of them.
    if values.len() > MOST_DIMS {
        return Err(format!("a tensor of more than {MOST_DIMS} dimensions"));
    }
    let integer = |value: &Value| match value {
        Value::Int(value) => Ok(*value),
        _ => Err("a shape that is not made of integers".to_owned()),
    };
    values.iter().map(integer).collect()
}
