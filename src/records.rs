//! stub
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("x")]
pub struct NotJson;
pub struct Counter;
impl Counter {
    pub fn new() -> Self {
        Self
    }
    pub fn feed(&mut self, _: &[u8]) -> Result<(), NotJson> {
        Ok(())
    }
    pub fn finish(self) -> Result<u64, NotJson> {
        Ok(0)
    }
}
