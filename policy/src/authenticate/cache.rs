//! Tokens that have been verified, so that a client that sends the same token with each request
//! costs one verification.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::claims::Claims;
use super::rule::JwtRule;
use super::token::Times;

/// A token whose signature has been verified.
#[derive(Debug)]
pub struct VerifiedToken {
    pub claims: Claims,
    /// The payload as sent, in base64 for URLs.
    pub payload_base64: String,
    pub(super) audiences: Vec<String>,
    pub(super) issuer: String,
    pub(super) times: Times,
}

/// The tokens that one worker has verified; the oldest go when there is no more room. Whether a
/// token has expired is asked each time.
#[derive(Debug)]
pub struct TokenCache {
    entries: HashMap<u64, Entry>,
    /// Oldest first.
    order: VecDeque<u64>,
    bytes: usize,
    max_bytes: usize,
    hasher: RandomState,
}

#[derive(Debug)]
struct Entry {
    /// Kept, so that no other rule can come to lie where this one lay.
    rule: Arc<JwtRule>,
    text: Box<str>,
    token: Arc<VerifiedToken>,
}

/// What an entry takes beside the token's own bytes, roughly: its claims are parsed.
const ENTRY_BYTES: usize = 512;

impl TokenCache {
    /// A cache that holds about `max_bytes`; 0 keeps nothing.
    pub fn new(max_bytes: usize) -> Self {
        Self {
            entries: HashMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            max_bytes,
            hasher: RandomState::new(),
        }
    }

    /// Another size; entries that it has no room for go with the next one that comes.
    pub fn set_max_bytes(&mut self, max_bytes: usize) {
        self.max_bytes = max_bytes;
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn get(&self, rule: &Arc<JwtRule>, text: &str) -> Option<Arc<VerifiedToken>> {
        let entry = self.entries.get(&self.key(rule, text))?;
        let is_same = Arc::ptr_eq(&entry.rule, rule) && &*entry.text == text;
        is_same.then(|| entry.token.clone())
    }

    pub(super) fn insert(&mut self, rule: &Arc<JwtRule>, text: &str, token: Arc<VerifiedToken>) {
        let cost = cost_of(text);
        if cost > self.max_bytes {
            return;
        }
        let key = self.key(rule, text);
        let entry = Entry {
            rule: rule.clone(),
            text: text.into(),
            token,
        };
        self.bytes += cost;
        match self.entries.insert(key, entry) {
            Some(old) => self.bytes -= cost_of(&old.text),
            None => self.order.push_back(key),
        }
        while self.bytes > self.max_bytes
            && let Some(oldest) = self.order.pop_front()
        {
            if let Some(old) = self.entries.remove(&oldest) {
                self.bytes -= cost_of(&old.text);
            }
        }
    }

    fn key(&self, rule: &Arc<JwtRule>, text: &str) -> u64 {
        self.hasher.hash_one((Arc::as_ptr(rule) as usize, text))
    }
}

/// Text, payload and claims each hold the token once.
fn cost_of(text: &str) -> usize {
    text.len() * 3 + ENTRY_BYTES
}
