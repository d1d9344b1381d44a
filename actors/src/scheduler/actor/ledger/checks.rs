//! What can be said against a job by its header alone.

use super::invalid;
use crate::code::FunctionRef;
use crate::task::JobId;
use crate::wire::{JobHeader, SubmitRefusal};

/// The longest names in a job's header, in bytes together. They travel with every batch.
pub(super) const HEADER_TEXT_BYTES_MAX: usize = 64 << 10;

/// For how many runs of tasks of other jobs one job may wait; a whole job counts as one. Each is a question to a result store, and
/// is looked at when one of its tasks has ended.
const DEPENDENCIES_MAX: usize = 1024;

/// How many labels, resources, named tasks and engines a job may choose its engines by. The controller matches each against each
/// engine, once.
const SELECTION_MAX: usize = 1000;

/// Whether a job may be opened with this header.
pub(super) fn header(id: JobId, header: &JobHeader) -> Result<(), SubmitRefusal> {
    texts(header)?;
    dependencies(id, header)?;
    selection(header)
}

fn texts(header: &JobHeader) -> Result<(), SubmitRefusal> {
    let reference = match &header.function.reference {
        FunctionRef::Offset { .. } => 0,
        FunctionRef::Named { name } => name.len(),
    };
    let selection = header.options.selection.text_bytes();
    let label = header.label.as_ref().map_or(0, String::len);
    let bytes = reference + header.function.name.len() + header.target.len() + label + selection;
    if bytes > HEADER_TEXT_BYTES_MAX {
        return Err(invalid(format!("its names have {bytes} bytes, and {HEADER_TEXT_BYTES_MAX} is the limit")));
    }
    Ok(())
}

fn dependencies(id: JobId, header: &JobHeader) -> Result<(), SubmitRefusal> {
    let count = header.options.dependencies().max(header.options.conditions().count());
    if count > DEPENDENCIES_MAX {
        let text = format!(
            "it waits for {count} single runs of tasks, and {DEPENDENCIES_MAX} is the limit: let it wait for whole jobs, which count once"
        );
        return Err(invalid(text));
    }
    if header.options.named_jobs().any(|job| job == id) {
        return Err(invalid(format!("job {id} is to wait for itself")));
    }
    Ok(())
}

fn selection(header: &JobHeader) -> Result<(), SubmitRefusal> {
    let chooses = !header.options.selection.is_empty() || !header.options.follow.is_empty();
    if chooses && !header.direct.is_empty() {
        return Err(invalid("it names the engine of each task, and chooses engines besides: leave out one of the two".into()));
    }
    let count = header.options.selection.len();
    if count > SELECTION_MAX {
        let text = format!("it names {count} engines, labels and resources, and {SELECTION_MAX} is the limit: choose by a label");
        return Err(invalid(text));
    }
    Ok(())
}
