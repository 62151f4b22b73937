//! stub
#![allow(missing_docs)]
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("not a JSON array")]
pub struct NotJson;
#[derive(Default)]
pub struct Counter(Vec<u8>);
impl Counter {
    pub fn new() -> Self {
        Self::default()
    }
    pub fn feed(&mut self, b: &[u8]) -> Result<(), NotJson> {
        self.0.extend_from_slice(b);
        Ok(())
    }
    pub fn finish(self) -> Result<u64, NotJson> {
        serde_json::from_slice::<Vec<serde::de::IgnoredAny>>(&self.0)
            .map(|v| v.len() as u64)
            .map_err(|_| NotJson)
    }
}
