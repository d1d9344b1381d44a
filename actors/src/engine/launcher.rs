//! What starts many processes at once, and tells each its rank.

use super::EngineError;

/// The variables in which launchers say a process's rank: Open MPI, PMIx, MPICH and others with PMI, Slurm. The first one that is
/// set counts: within a job of Slurm, mpiexec's say more.
const RANK_VARIABLES: [&str; 4] = ["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"];

/// The rank that mpiexec or Slurm has given this process, by its environment; `None` if neither has started it.
///
/// # Errors
/// [`EngineError::Rank`] when the variable is no number.
pub fn launcher_rank() -> Result<Option<u32>, EngineError> {
    rank_of(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
}

fn rank_of(value_of: impl Fn(&str) -> Option<String>) -> Result<Option<u32>, EngineError> {
    let found = RANK_VARIABLES.iter().find_map(|name| Some((*name, value_of(name)?)));
    let Some((variable, value)) = found else { return Ok(None) };
    value.parse().map(Some).map_err(|_| EngineError::Rank { variable, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_launchers_own_variable_counts_before_that_of_slurm() {
        let rank = |set: &[(&str, &str)]| {
            rank_of(|name| set.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string()))
        };
        assert_eq!(rank(&[("RANK", "7")]).unwrap(), None);
        assert_eq!(rank(&[("SLURM_PROCID", "3")]).unwrap(), Some(3));
        assert_eq!(rank(&[("SLURM_PROCID", "0"), ("OMPI_COMM_WORLD_RANK", "2")]).unwrap(), Some(2));
        assert_eq!(rank(&[("PMI_RANK", "1")]).unwrap(), Some(1));
        assert_eq!(rank(&[("PMIX_RANK", "4")]).unwrap(), Some(4));
        let error = rank(&[("PMI_RANK", "first")]).unwrap_err().to_string();
        assert!(error.contains("PMI_RANK=first"), "{error}");
    }
}
