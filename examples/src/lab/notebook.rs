//! A lab notebook: a file of points, what came of each, and the message ids of those that are pending. Programs come and go, and it
//! stays. One of them at a time.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use engineroom::{MessageId, TaskError};
use serde::{Deserialize, Serialize};

use super::{Point, Summary};
use crate::Failure;

/// A notebook that is open.
#[derive(Debug)]
pub struct Notebook {
    path: PathBuf,
    /// What stands in it.
    pub entries: Vec<Entry>,
}

/// One point, and what is known of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Where in the parameter space.
    pub point: Point,
    /// The task's message id, as text.
    pub id: String,
    /// How far it is.
    pub state: State,
}

/// How far a point is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It has not ended, as far as the notebook knows.
    Pending,
    /// It was measured.
    Done(Summary),
    /// It was cancelled.
    Cancelled,
    /// It failed, and why.
    Failed(String),
}

impl Notebook {
    /// Opens a notebook; a new one if there is none.
    ///
    /// # Errors
    /// [`Failure::File`] when the file cannot be read, [`Failure::Usage`] when it is no notebook.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let entries = match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| Failure::Usage(format!("{} is not a notebook of this program: {error}", path.display())))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(Failure::read(path)(error)),
        };
        let notebook = Self { path: path.into(), entries };
        for entry in &notebook.entries {
            notebook.id(entry)?;
        }
        Ok(notebook)
    }

    /// Writes it down: all of it or, if the system fails, nothing.
    ///
    /// # Errors
    /// [`Failure::File`] when the system says so.
    pub fn save(&self) -> Result<(), Failure> {
        let text = serde_json::to_vec_pretty(&self.entries).map_err(|error| Failure::write(&self.path)(error.into()))?;
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let write = || {
            let mut file = tempfile::NamedTempFile::new_in(directory)?;
            io::Write::write_all(&mut file, &text)?;
            file.as_file().sync_all()?;
            file.persist(&self.path).map_err(|error| error.error)
        };
        write().map(drop).map_err(Failure::write(&self.path))
    }

    /// The places and message ids of the points that are pending.
    ///
    /// # Errors
    /// [`Failure::Usage`] when an id is none.
    pub fn pending(&self) -> Result<Vec<(usize, MessageId)>, Failure> {
        let pending = self.entries.iter().enumerate().filter(|(_, entry)| entry.state == State::Pending);
        pending.map(|(place, entry)| Ok((place, self.id(entry)?))).collect()
    }

    /// The message id of an entry.
    ///
    /// # Errors
    /// [`Failure::Usage`] when it is none.
    pub fn id(&self, entry: &Entry) -> Result<MessageId, Failure> {
        entry.id.parse().map_err(|error| Failure::Usage(format!("{}: {error}", self.path.display())))
    }
}

impl State {
    /// What became of a task.
    pub fn of(result: Result<Summary, TaskError>) -> Self {
        match result {
            Ok(summary) => State::Done(summary),
            Err(error) if error.cause == engineroom::Cause::Aborted => State::Cancelled,
            Err(error) => State::Failed(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notebook_is_as_it_was_when_it_is_opened_again() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("notebook.json");
        let mut notebook = Notebook::open(&path).unwrap();
        assert!(notebook.entries.is_empty());
        let id = "0192f0c1-2b3d-7e4f-8a5b-6c7d8e9f0a1b/17".to_string();
        let states =
            [State::Pending, State::Done(Summary::of([1.0, 2.5]).unwrap()), State::Cancelled, State::Failed("why".into())];
        let entry = |state| Entry { point: Point { load: 0.5, customers: 3 }, id: id.clone(), state };
        notebook.entries = states.into_iter().map(entry).collect();
        notebook.save().unwrap();
        let again = Notebook::open(&path).unwrap();
        assert_eq!(again.entries, notebook.entries);
        assert_eq!(again.pending().unwrap(), [(0, id.parse().unwrap())]);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);

        for wrong in ["no", r#"[{"point":{"load":0.5,"customers":3},"id":"x","state":"pending"}]"#] {
            fs::write(&path, wrong).unwrap();
            assert!(matches!(Notebook::open(&path), Err(Failure::Usage(text)) if text.contains("notebook.json")), "{wrong}");
        }
    }
}
