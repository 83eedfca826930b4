//! JSGF as text: tokens, then rules by recursive descent.

use std::collections::BTreeMap;

use super::Fault;

/// What may be said, as written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expansion {
    /// A word, and its line.
    Word(String, usize),
    /// A reference to a rule, and its line.
    Rule(String, usize),
    Sequence(Vec<Expansion>),
    Choice(Vec<Expansion>),
    Optional(Box<Expansion>),
    /// Once or more.
    Repeated(Box<Expansion>),
}

/// The rules of a grammar, by name.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) by_name: BTreeMap<String, Expansion>,
    /// Names of those that begin a sentence.
    pub(super) public: Vec<String>,
}

/// Groups within groups: what follows recurses as deep.
const DEEPEST: usize = 64;

pub(super) fn parse(text: &str) -> Result<Rules, Fault> {
    let mut parser = Parser {
        tokens: tokens(text)?,
        at: 0,
        depth: 0,
    };
    // `#JSGF V1.0 [encoding [locale]];`
    while parser.take()?.0 != Token::Mark(';') {}
    let mut rules = Rules::default();
    while parser.at < parser.tokens.len() {
        let public = match parser.take()? {
            (Token::Word(word), line) => match word.as_str() {
                "grammar" => {
                    while parser.take()?.0 != Token::Mark(';') {}
                    continue;
                }
                "public" => true,
                "import" => {
                    let reason = "grammars cannot be imported: write their rules here";
                    return Err((Some(line), reason.to_owned()));
                }
                _ => return unexpected("a rule, as in <name> = words;", &Token::Word(word), line),
            },
            _ => {
                parser.at -= 1;
                false
            }
        };
        let (name, line) = match parser.take()? {
            (Token::Rule(name), line) => (name, line),
            (found, line) => return unexpected("the name of a rule, as in <name>", &found, line),
        };
        parser.expect('=')?;
        let expansion = parser.choice()?;
        parser.expect(';')?;
        if public {
            rules.public.push(name.clone());
        }
        if rules.by_name.insert(name.clone(), expansion).is_some() {
            return Err((Some(line), format!("rule <{name}> is written twice")));
        }
    }
    if rules.public.is_empty() {
        let reason = "no rule is public: put `public` before the one that says whole sentences";
        return Err((None, reason.to_owned()));
    }
    Ok(rules)
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Rule(String),
    Mark(char),
}

fn unexpected<T>(expected: &str, found: &Token, line: usize) -> Result<T, Fault> {
    let found = match found {
        Token::Word(word) => word.clone(),
        Token::Rule(name) => format!("<{name}>"),
        Token::Mark(mark) => mark.to_string(),
    };
    Err((
        Some(line),
        format!("expected {expected}, found {:?}", shortened(&found)),
    ))
}

fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

struct Parser {
    tokens: Vec<(Token, usize)>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn take(&mut self) -> Result<(Token, usize), Fault> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token.ok_or_else(|| {
            let last = self.tokens.last().map(|(_, line)| *line);
            (
                last,
                "the grammar ends in the middle of a rule: is a `;` missing?".to_owned(),
            )
        })
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(token, _)| token)
    }

    fn expect(&mut self, mark: char) -> Result<(), Fault> {
        match self.take()? {
            (Token::Mark(found), _) if found == mark => Ok(()),
            (found, line) => unexpected(&format!("`{mark}`"), &found, line),
        }
    }

    fn choice(&mut self) -> Result<Expansion, Fault> {
        self.depth += 1;
        if self.depth > DEEPEST {
            let line = self.tokens.get(self.at).map(|(_, line)| *line);
            let reason = format!("groups stand in one another more than {DEEPEST} deep");
            return Err((line, reason));
        }
        let mut choices = vec![self.sequence()?];
        while self.peek() == Some(&Token::Mark('|')) {
            self.at += 1;
            choices.push(self.sequence()?);
        }
        self.depth -= 1;
        Ok(match choices.len() {
            1 => choices.remove(0),
            _ => Expansion::Choice(choices),
        })
    }

    fn sequence(&mut self) -> Result<Expansion, Fault> {
        let mut parts = Vec::new();
        loop {
            let part = match self.take()? {
                (Token::Word(word), line) => Expansion::Word(word, line),
                (Token::Rule(name), line) => Expansion::Rule(name, line),
                (Token::Mark('('), _) => {
                    let group = self.choice()?;
                    self.expect(')')?;
                    group
                }
                (Token::Mark('['), _) => {
                    let group = self.choice()?;
                    self.expect(']')?;
                    Expansion::Optional(Box::new(group))
                }
                (found, line) => {
                    self.at -= 1;
                    if parts.is_empty() {
                        return unexpected("a word, <rule>, ( or [", &found, line);
                    }
                    break;
                }
            };
            parts.push(match self.peek() {
                Some(Token::Mark('*')) => {
                    self.at += 1;
                    Expansion::Optional(Box::new(Expansion::Repeated(Box::new(part))))
                }
                Some(Token::Mark('+')) => {
                    self.at += 1;
                    Expansion::Repeated(Box::new(part))
                }
                _ => part,
            });
        }
        Ok(match parts.len() {
            1 => parts.remove(0),
            _ => Expansion::Sequence(parts),
        })
    }
}

/// Words, rule names and marks with their lines; comments and `{tags}` are left out.
fn tokens(text: &str) -> Result<Vec<(Token, usize)>, Fault> {
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if let Some(comment) = rest.strip_prefix("//") {
            2 + comment.find('\n').unwrap_or(comment.len())
        } else if let Some(comment) = rest.strip_prefix("/*") {
            let end = comment.find("*/");
            4 + end.ok_or_else(|| (Some(line), "a comment has no `*/`".to_owned()))?
        } else {
            match first {
                '<' => {
                    let end = enclosed(rest, '>', line)?;
                    let name = rest[1..end].trim();
                    if name.is_empty() || name == "NULL" || name == "VOID" {
                        let reason = format!("expected the name of a rule, found <{name}>");
                        return Err((Some(line), reason));
                    }
                    tokens.push((Token::Rule(name.to_owned()), line));
                    end + 1
                }
                '{' => enclosed(rest, '}', line)? + 1,
                '"' => {
                    let end = 1 + enclosed(&rest[1..], '"', line)?;
                    let words = rest[1..end].split_whitespace();
                    tokens.push((Token::Mark('('), line));
                    tokens.extend(words.map(|word| (Token::Word(word.to_owned()), line)));
                    tokens.push((Token::Mark(')'), line));
                    end + 1
                }
                '=' | ';' | '|' | '(' | ')' | '[' | ']' | '*' | '+' => {
                    tokens.push((Token::Mark(first), line));
                    1
                }
                '/' => {
                    let reason = "weights as in /2/ are not known: leave them out";
                    return Err((Some(line), reason.to_owned()));
                }
                _ if first.is_whitespace() => first.len_utf8(),
                _ => {
                    let ends = |c: char| c.is_whitespace() || "<{\"=;|()[]*+/".contains(c);
                    let end = rest.find(ends).unwrap_or(rest.len());
                    tokens.push((Token::Word(rest[..end].to_owned()), line));
                    end
                }
            }
        };
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    Ok(tokens)
}

/// Where the part ends that begins with the first letter.
fn enclosed(text: &str, end: char, line: usize) -> Result<usize, Fault> {
    text.find(end).ok_or_else(|| {
        let reason = format!("{:?} has no `{end}`", shortened(text.trim_end()));
        (Some(line), reason)
    })
}
