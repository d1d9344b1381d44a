//! How a task names the function that it calls.

use std::{any::type_name, fmt, sync::Arc};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Callable, Tasks, trampoline};
use crate::task::{BundleHash, Cause};

/// The longest name of a function, in bytes. Names serve people; generic Rust names can be thousands of bytes long.
pub(crate) const FUNCTION_NAME_BYTES_MAX: usize = 256;

/// Where a worker finds a function.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum FunctionRef {
    /// In a program, at a distance from that program's anchor function.
    Offset {
        /// The program.
        bundle: BundleHash,
        /// The distance, in bytes.
        offset: i64,
    },
    /// Among the tasks that the engine's own program has registered.
    Named {
        /// The task's name.
        name: String,
    },
}

/// A function as it travels: where it is found, and what people call it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Function {
    /// Where it is found.
    pub(crate) reference: FunctionRef,
    /// Its Rust name, or that of the named task; for people only.
    pub(crate) name: String,
}

/// A function that cannot travel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FunctionError {
    /// It is not part of the executable.
    #[error(
        "{function} cannot be found again in another process: functions travel only from the executable itself, not from a \
         shared library, and only on systems with /proc/self/maps; register a named task instead"
    )]
    NotInProgram {
        /// The function's Rust name.
        function: String,
    },
}

impl Function {
    /// A function of this program, whose executable is `bundle`.
    ///
    /// # Errors
    /// When the function's code is not part of the executable itself.
    pub(crate) fn of_program<F, A, R>(function: F, bundle: BundleHash) -> Result<Self, FunctionError>
    where
        F: Fn(A) -> R + Copy + Send + 'static,
        A: DeserializeOwned,
        R: Serialize + 'static,
    {
        Self::at(trampoline::plain(function), type_name::<F>(), bundle)
    }

    /// A function of this program, whose executable is `bundle`, of which an `Err` fails the task.
    ///
    /// # Errors
    /// When the function's code is not part of the executable itself.
    pub(crate) fn of_program_fallible<F, A, R, E>(function: F, bundle: BundleHash) -> Result<Self, FunctionError>
    where
        F: Fn(A) -> Result<R, E> + Copy + Send + 'static,
        A: DeserializeOwned,
        R: Serialize + 'static,
        E: fmt::Display + 'static,
    {
        Self::at(trampoline::fallible(function), type_name::<F>(), bundle)
    }

    /// As [`of_program`](Self::of_program), for a function that also takes what the tasks of its job share.
    ///
    /// # Errors
    /// When the function's code is not part of the executable itself.
    pub(crate) fn of_program_sharing<F, S, A, R>(function: F, bundle: BundleHash) -> Result<Self, FunctionError>
    where
        F: Fn(&S, A) -> R + Copy + Send + 'static,
        S: DeserializeOwned + Send + Sync + 'static,
        A: DeserializeOwned,
        R: Serialize + 'static,
    {
        Self::at(trampoline::sharing(function), type_name::<F>(), bundle)
    }

    /// As [`of_program_sharing`](Self::of_program_sharing); an `Err` of the function fails the task.
    ///
    /// # Errors
    /// When the function's code is not part of the executable itself.
    pub(crate) fn of_program_sharing_fallible<F, S, A, R, E>(function: F, bundle: BundleHash) -> Result<Self, FunctionError>
    where
        F: Fn(&S, A) -> Result<R, E> + Copy + Send + 'static,
        S: DeserializeOwned + Send + Sync + 'static,
        A: DeserializeOwned,
        R: Serialize + 'static,
        E: fmt::Display + 'static,
    {
        Self::at(trampoline::sharing_fallible(function), type_name::<F>(), bundle)
    }

    /// As [`of_program_sharing_fallible`](Self::of_program_sharing_fallible), for a function that keeps what the tasks share.
    ///
    /// # Errors
    /// When the function's code is not part of the executable itself.
    pub(crate) fn of_program_holding<F, S, A, R, E>(function: F, bundle: BundleHash) -> Result<Self, FunctionError>
    where
        F: Fn(Arc<S>, A) -> Result<R, E> + Copy + Send + 'static,
        S: DeserializeOwned + Send + Sync + 'static,
        A: DeserializeOwned,
        R: Serialize + 'static,
        E: fmt::Display + 'static,
    {
        Self::at(trampoline::holding(function), type_name::<F>(), bundle)
    }

    /// A task that the engines' programs have registered under a name.
    pub(crate) fn named(name: &str) -> Self {
        Self { reference: FunctionRef::Named { name: name.into() }, name: name.into() }
    }

    /// The program that the function is part of; `None` for a named task.
    pub(crate) fn bundle(&self) -> Option<BundleHash> {
        match self.reference {
            FunctionRef::Offset { bundle, .. } => Some(bundle),
            FunctionRef::Named { .. } => None,
        }
    }

    /// Finds the function in this process, whose executable is `own_bundle` and which has registered `tasks`.
    ///
    /// # Errors
    /// [`Cause::FunctionUnknown`] when it is not here.
    pub(crate) fn find(&self, own_bundle: Option<BundleHash>, tasks: &Tasks) -> Result<Callable, Cause> {
        let unknown = |detail| Cause::FunctionUnknown { function: self.name.clone(), detail };
        match &self.reference {
            FunctionRef::Named { name } => tasks.find(name).ok_or_else(|| unknown(not_registered(tasks))),
            FunctionRef::Offset { bundle, offset } => match own_bundle {
                Some(own) if own == *bundle => match trampoline::resolve(*bundle, *offset, own) {
                    Some(entry) => Ok(Arc::new(entry)),
                    None => Err(unknown(format!("offset {offset} lies outside the program's code"))),
                },
                own => Err(unknown(other_program(*bundle, own))),
            },
        }
    }

    fn at(entry: trampoline::Entry, name: &str, bundle: BundleHash) -> Result<Self, FunctionError> {
        let name = name[..name.floor_char_boundary(FUNCTION_NAME_BYTES_MAX)].to_string();
        match trampoline::offset_of(entry) {
            Some(offset) => Ok(Self { reference: FunctionRef::Offset { bundle, offset }, name }),
            None => Err(FunctionError::NotInProgram { function: name }),
        }
    }
}

fn other_program(wanted: BundleHash, own: Option<BundleHash>) -> String {
    match own {
        Some(own) => format!("it is part of program {wanted}, and the worker runs program {own}"),
        None => format!("it is part of program {wanted}, and this worker runs named tasks only"),
    }
}

fn not_registered(tasks: &Tasks) -> String {
    let names: Vec<&str> = tasks.names().take(8).collect();
    match names[..] {
        [] => "no task is registered there under any name; pass the engine's tasks to init_with".into(),
        _ => format!("no task is registered there under that name; among those registered: {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::{SharedValues, TaskName, decode, encode};

    const HERE: BundleHash = BundleHash([1; 32]);
    const THERE: BundleHash = BundleHash([2; 32]);

    fn add_one(x: u64) -> u64 {
        x + 1
    }

    fn called(function: &Function, tasks: &Tasks, argument: u64) -> Result<u64, Cause> {
        // Through its encoding, as it travels.
        let mut bytes = Vec::new();
        encode(function, &mut bytes).unwrap();
        let callable = decode::<Function>(&bytes).unwrap().find(Some(HERE), tasks)?;
        let (mut bytes, mut result) = (Vec::new(), Vec::new());
        encode(&argument, &mut bytes).unwrap();
        callable(&SharedValues::default().of_run(None), &bytes, &mut result)?;
        Ok(decode(&result).unwrap())
    }

    fn detail(result: Result<u64, Cause>) -> String {
        match result {
            Err(Cause::FunctionUnknown { detail, .. }) => detail,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn functions_are_found_by_offset_and_by_name() {
        let tasks = Tasks::new().register(TaskName::new("add"), |x: u64| x + 10);
        assert_eq!(called(&Function::of_program(add_one, HERE).unwrap(), &tasks, 1), Ok(2));
        assert_eq!(called(&Function::named("add"), &tasks, 1), Ok(11));
    }

    #[test]
    fn a_function_that_is_not_here_says_why() {
        let tasks = Tasks::new().register(TaskName::new("add"), |x: u64| x + 10);
        assert!(detail(called(&Function::of_program(add_one, THERE).unwrap(), &tasks, 1)).contains(&THERE.to_string()));
        assert!(detail(called(&Function::named("sub"), &tasks, 1)).contains("add"));
        assert!(detail(called(&Function::named("sub"), &Tasks::new(), 1)).contains("init_with"));
        let mut lost = Function::of_program(add_one, HERE).unwrap();
        lost.reference = FunctionRef::Offset { bundle: HERE, offset: 1 << 50 };
        assert!(detail(called(&lost, &tasks, 1)).contains("outside"));
        assert!(Function::of_program(add_one, HERE).unwrap().find(None, &tasks).is_err());
    }

    #[test]
    fn names_are_for_people_and_bounded() {
        fn long<T>(_: ()) {}
        type Deep = ((((String, String), (String, String)), (String, String)), ((String, String), (String, String)));
        let name = Function::of_program(long::<(Deep, Deep)>, HERE).unwrap().name;
        assert_eq!(name.len(), FUNCTION_NAME_BYTES_MAX);
        assert!(Function::of_program(add_one, HERE).unwrap().name.ends_with("::add_one"));
    }
}
