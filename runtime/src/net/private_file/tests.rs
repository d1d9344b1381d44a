use std::{fs::Permissions, os::unix::fs::PermissionsExt};

use super::*;

/// A directory that is removed with its contents when the test ends.
pub(crate) struct TestDir(PathBuf);

impl TestDir {
    pub(crate) fn new() -> Self {
        let path = std::env::temp_dir().join(format!("engineroom-test-{:016x}", rand::random::<u64>()));
        create_directory(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn files_are_private_and_replaced_whole() {
    let dir = TestDir::new();
    let path = dir.path("secret");
    for text in ["first", "the second, which is longer", "3"] {
        write("key file", &path, text.as_bytes()).unwrap();
        assert_eq!(read_secret("key file", &path, 100).unwrap(), text.as_bytes());
        assert_eq!(mode(&path), FILE_MODE);
    }
    // Nothing is left of the temporary files.
    assert_eq!(fs::read_dir(dir.path("")).unwrap().count(), 1);
    assert_eq!(mode(&dir.path("")), DIRECTORY_MODE);
}

#[test]
fn a_file_that_others_can_read_is_refused_if_it_is_secret() {
    let dir = TestDir::new();
    let path = dir.path("ca.key");
    write("key file", &path, b"secret").unwrap();
    for bits in [0o644, 0o640, 0o604, 0o620, 0o601] {
        set_mode(&path, bits);
        let error = read_secret("key file", &path, 100).unwrap_err();
        let shown = path.display();
        assert_eq!(error.to_string(), format!("key file {shown} is readable by others (mode {bits:04o}): run chmod 600 {shown}"));
        assert_eq!(read_public("certificate file", &path, 100).unwrap(), b"secret");
    }
    set_mode(&path, 0o400);
    assert!(read_secret("key file", &path, 100).is_ok());
}

#[test]
fn what_cannot_be_such_a_file_is_refused() {
    let dir = TestDir::new();
    let path = dir.path("file");
    assert!(matches!(read_secret("key file", &path, 100), Err(PrivateFileError::Missing { .. })));
    assert!(matches!(read_secret("key file", &dir.path(""), 100), Err(PrivateFileError::NotAFile { .. })));
    write("key file", &path, &[b'x'; 101]).unwrap();
    assert!(matches!(read_secret("key file", &path, 100), Err(PrivateFileError::TooLong { .. })));
    assert_eq!(read_secret("key file", &path, 101).unwrap().len(), 101);
    let nowhere = dir.path("no such directory").join("file");
    assert!(matches!(write("key file", &nowhere, b""), Err(PrivateFileError::Io { action: "write", .. })));
}

#[test]
fn a_directory_that_others_can_change_is_refused() {
    let dir = TestDir::new();
    let path = dir.path("security");
    create_directory(&path).unwrap();
    assert_eq!(mode(&path), DIRECTORY_MODE);
    set_mode(&path, 0o755);
    assert!(create_directory(&path).is_ok());
    set_mode(&path, 0o770);
    let error = create_directory(&path).unwrap_err();
    assert!(error.to_string().ends_with(&format!("(mode 0770): run chmod 700 {}", path.display())), "{error}");
}
