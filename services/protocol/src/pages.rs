//! Pages: how many items, and from where.

use crate::{Cursor, ErrorCode, Invalid};

/// How many items a page holds: 1 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLimit(u8);

impl PageLimit {
    /// One item.
    pub const ONE: Self = Self(1);

    /// Reads the `limit` parameter: digits only.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        match text.parse() {
            Ok(limit @ 1..=100) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                Ok(Self(limit))
            }
            _ => Err(Invalid::new(
                ErrorCode::InvalidLimit,
                "limit is a number from 1 to 100",
            )),
        }
    }

    /// The number.
    pub const fn get(self) -> usize {
        self.0 as usize
    }
}

impl Default for PageLimit {
    fn default() -> Self {
        Self(50)
    }
}

/// Which page is wanted.
#[derive(Clone, Copy, Debug)]
pub struct PageRequest {
    /// The page right after this place; none: the newest page.
    pub after: Option<Cursor>,
    /// How many items at most.
    pub limit: PageLimit,
}

/// Items of one page, oldest first, and whether more follows after it.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Whether something follows after the last item; false on a newest page.
    pub has_more: bool,
}

impl<T> Page<T> {
    /// Cuts off the one item that was read beyond `limit` to learn whether more follows.
    pub fn from_one_more(mut items: Vec<T>, limit: PageLimit) -> Self {
        let has_more = items.len() > limit.get();
        items.truncate(limit.get());
        Self { items, has_more }
    }
}
