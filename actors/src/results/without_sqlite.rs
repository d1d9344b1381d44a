//! What stands for the store on disk in a program that was built without it.

use std::{path::Path, sync::Arc};

use super::{
    Restored, Retention, StoreError,
    backend::{Question, Write},
    port::{FromStore, Port},
};

/// A store on disk, of which there is none.
#[derive(Clone, Debug)]
pub(crate) enum Store {}

impl Store {
    /// Opens nothing.
    ///
    /// # Errors
    /// Always.
    pub fn open(_file: &Path, _retention: Retention) -> Result<(Self, Restored), StoreError> {
        Err(StoreError::NotBuilt)
    }

    pub(super) fn attach(&self, _tell: Box<dyn Fn(FromStore) + Send + Sync>) -> Arc<Port> {
        match *self {}
    }

    pub(super) fn write(&self, _port: &Arc<Port>, _ticket: Option<u64>, _write: Write) {
        match *self {}
    }

    pub(super) fn ask(&self, _port: &Arc<Port>, _ticket: u64, _question: Question) {
        match *self {}
    }

    pub(super) fn size(&self) -> (usize, usize) {
        match *self {}
    }
}
