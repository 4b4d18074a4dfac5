//! Reading configuration directories into text.
//!
//! Taken: `*.yaml`, `*.yml` and `*.json` in the directory and its subfolders. Left out: names
//! that begin with a dot. A Kubernetes volume therefore works as it is mounted: `..data` and the
//! dated folder behind it are skipped, and the visible links are followed through them. What
//! cannot be read gives a diagnostic instead of being left out in silence.

use std::collections::HashSet;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringroad_policy::diagnostic::{Diagnostic, Place};
use ringroad_policy::source::{FileId, Position, SourceFile};

use super::stalls::{self, Steps};

/// What one load may read. The limits keep a mistaken path (`/`, a log folder) from filling the
/// memory.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimits {
    /// Bytes of one file; 16 MiB.
    pub max_file_bytes: u64,
    /// Bytes of all files together; 64 MiB.
    pub max_total_bytes: u64,
    /// Number of files; 20,000.
    pub max_files: usize,
    /// Levels of subfolders; 16.
    pub max_depth: usize,
    /// How long a file or folder may give no answer; 5 s.
    pub max_stall: Duration,
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self {
            max_file_bytes: 16 << 20,
            max_total_bytes: 64 << 20,
            max_files: 20_000,
            max_depth: 16,
            max_stall: Duration::from_secs(5),
        }
    }
}

/// What was read. A file that could not be read is in `files` with an empty text, so that a
/// diagnostic can name it. Where all of them are too large together, none has a text: to parse them
/// would take memory and time for what is refused anyway.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    pub files: Vec<SourceFile>,
    /// Files and folders that could not be read; all are errors.
    pub problems: Vec<Diagnostic>,
}

/// A configuration path that is not there or cannot be listed.
#[derive(Debug)]
pub struct RootError {
    pub path: PathBuf,
    pub cause: io::Error,
}

impl std::fmt::Display for RootError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.path.display();
        match self.cause.kind() {
            io::ErrorKind::NotFound => write!(f, "{path} does not exist"),
            io::ErrorKind::PermissionDenied => write!(f, "{path} may not be read by this user"),
            _ => write!(f, "{path} cannot be read: {}", self.cause),
        }
    }
}

/// What is read, and where it is not.
fn nothing_in(roots: &[PathBuf], word: &str) -> String {
    let roots: Vec<String> = roots
        .iter()
        .map(|root| root.display().to_string())
        .collect();
    let roots = roots.join(" and ");
    format!("there is no *.yaml, *.yml or *.json {word} {roots}")
}

/// Says that there is nothing in the directories that is read.
pub fn no_files(roots: &[PathBuf]) -> Diagnostic {
    let message = nothing_in(roots, "in");
    let help = "give the directory that holds the configuration; `ringroad run` would start on \
                this one, and not be ready until a file comes";
    Diagnostic::warning("no-files", Place::Nowhere, message).with_help(help)
}

/// Refuses directories whose last file has gone. So does one look whose file is written anew after
/// it was moved away: taken as no documents, that would end all listeners.
pub fn emptied(roots: &[PathBuf]) -> Diagnostic {
    let message = nothing_in(roots, "any more in");
    let help = "put the files back; to have no documents, leave a file that holds a comment";
    Diagnostic::error("no-files", Place::Nowhere, message).with_help(help)
}

/// How a file looked from outside: enough to see that it was changed or replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint(Vec<(PathBuf, u64, u64, u64, i64, i64)>);

/// U+FEFF in UTF-8, with which some editors start a text.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// How often a directory that changes while it is being read is read again.
const MAX_READ_ATTEMPTS: usize = 3;

/// Reads all `roots` (directories or single files), in the order given and sorted by path in
/// each. A set of files that changes meanwhile, as when Kubernetes swaps `..data`, is read again.
pub fn read(roots: &[PathBuf], limits: &ReadLimits) -> Result<Reading, RootError> {
    finish(roots, limits, read_all)
}

/// The fingerprint of everything that [`read`] would read, without reading it.
pub fn fingerprint(roots: &[PathBuf], limits: &ReadLimits) -> Result<Fingerprint, RootError> {
    finish(roots, limits, |roots, pass| {
        Ok(list(roots, pass)?.fingerprint())
    })
}

/// What one pass over the directories goes by.
struct Pass<'a> {
    limits: ReadLimits,
    steps: &'a Steps,
}

fn finish<T: Send + 'static>(
    roots: &[PathBuf],
    limits: &ReadLimits,
    work: fn(&[PathBuf], &Pass) -> Result<T, RootError>,
) -> Result<T, RootError> {
    let (all, limits) = (roots.to_vec(), *limits);
    let finished = stalls::finish(limits.max_stall, move |steps| {
        work(&all, &Pass { limits, steps })
    });
    finished.unwrap_or_else(|| {
        let path = roots.first().cloned().unwrap_or_default();
        let cause = io::Error::new(io::ErrorKind::TimedOut, "most of it gives no answer");
        Err(RootError { path, cause })
    })
}

fn read_all(roots: &[PathBuf], pass: &Pass) -> Result<Reading, RootError> {
    let mut listing = list(roots, pass)?;
    let mut attempt = 1;
    loop {
        let mut reading = read_listed(&listing, pass);
        let after = list(roots, pass)?;
        if after.fingerprint() == listing.fingerprint() {
            return Ok(reading);
        }
        if attempt == MAX_READ_ATTEMPTS {
            forgive_removed(&mut reading, &listing, &after);
            return Ok(reading);
        }
        listing = after;
        attempt += 1;
    }
}

/// Takes back what was said of files that went away while they were read, as when many are removed
/// one by one. Not where others came meanwhile: those may be the same files under other names. Nor
/// where none is left: that is refused as such by the next look, and must not pass for no documents.
fn forgive_removed(reading: &mut Reading, before: &Listing, after: &Listing) {
    let known: HashSet<&Path> = before.paths().collect();
    if !after.paths().all(|path| known.contains(path)) {
        return;
    }
    let is_left = |entry: &&Entry| entry.found.is_ok() || entry.path.is_symlink();
    let left = after.entries.iter().filter(is_left);
    let left: HashSet<&Path> = left.map(|entry| entry.path.as_path()).collect();
    if left.is_empty() {
        return;
    }
    let Reading { files, problems } = reading;
    problems.retain(|problem| match problem.place {
        Place::File(FileId(at)) => files
            .get(at as usize)
            .is_none_or(|file| left.contains(Path::new(&file.path))),
        _ => true,
    });
}

struct Entry {
    path: PathBuf,
    found: Result<Metadata, String>,
}

#[derive(Default)]
struct Listing {
    entries: Vec<Entry>,
    /// The folders passed, to end a cycle of links.
    folders: HashSet<(u64, u64)>,
    /// The files passed: one that is reached by two ways is read once.
    files: HashSet<(u64, u64)>,
    stopped_at_max_files: bool,
}

impl Listing {
    fn paths(&self) -> impl Iterator<Item = &Path> {
        self.entries.iter().map(|entry| entry.path.as_path())
    }

    fn fingerprint(&self) -> Fingerprint {
        let of = |entry: &Entry| match &entry.found {
            Ok(meta) => (
                entry.path.clone(),
                meta.dev(),
                meta.ino(),
                meta.size(),
                meta.mtime(),
                meta.mtime_nsec(),
            ),
            Err(_) => (entry.path.clone(), 0, 0, 0, 0, 0),
        };
        Fingerprint(self.entries.iter().map(of).collect())
    }
}

/// What stands at `path`, through links. An error also where it gave no answer and still gives none.
fn look_at(path: &Path, pass: &Pass) -> io::Result<Metadata> {
    pass.steps.touch(path, None)?;
    let mut meta = fs::symlink_metadata(path)?;
    if meta.is_symlink() {
        pass.steps.touch(path, Some(&meta))?;
        meta = fs::metadata(path)?;
    }
    pass.steps.touch(path, Some(&meta))?;
    Ok(meta)
}

fn list(roots: &[PathBuf], pass: &Pass) -> Result<Listing, RootError> {
    let mut listing = Listing::default();
    for root in roots {
        let at_root = |cause| RootError {
            path: root.clone(),
            cause,
        };
        let meta = look_at(root, pass).map_err(at_root)?;
        if meta.is_dir() {
            // The same folder may be given twice, or with one of its own subfolders.
            if listing.folders.insert((meta.dev(), meta.ino())) {
                let names = sorted_names(root).map_err(at_root)?;
                list_folder(root, names, pass, 1, &mut listing);
            }
        } else if listing.files.insert((meta.dev(), meta.ino())) {
            listing.entries.push(Entry {
                path: root.clone(),
                found: Ok(meta),
            });
        }
    }
    Ok(listing)
}

fn sorted_names(folder: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.file_name());
    }
    names.sort();
    Ok(names)
}

fn list_folder(
    folder: &Path,
    names: Vec<std::ffi::OsString>,
    pass: &Pass,
    depth: usize,
    listing: &mut Listing,
) {
    for name in names {
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if listing.entries.len() >= pass.limits.max_files {
            listing.stopped_at_max_files = true;
            return;
        }
        let path = folder.join(&name);
        let named_as_config = is_config_name(&path);
        let found = match look_at(&path, pass) {
            Ok(meta) if meta.is_dir() => {
                if !listing.folders.insert((meta.dev(), meta.ino())) {
                    continue;
                }
                if depth >= pass.limits.max_depth {
                    Err(format!(
                        "folders are nested deeper than {} levels",
                        pass.limits.max_depth
                    ))
                } else {
                    match sorted_names(&path) {
                        Ok(names) => {
                            list_folder(&path, names, pass, depth + 1, listing);
                            continue;
                        }
                        Err(error) => Err(format!("this folder cannot be listed: {error}")),
                    }
                }
            }
            Ok(meta) if named_as_config => {
                if !listing.files.insert((meta.dev(), meta.ino())) {
                    continue;
                }
                Ok(meta)
            }
            Err(error) if named_as_config => Err(format!("this file cannot be read: {error}")),
            // It may be a folder of files.
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(error.to_string()),
            _ => continue,
        };
        listing.entries.push(Entry { path, found });
    }
}

/// Whether a file of this name is read.
pub fn is_config_name(path: &Path) -> bool {
    let extension = path
        .extension()
        .and_then(|it| it.to_str())
        .unwrap_or_default();
    ["yaml", "yml", "json"]
        .iter()
        .any(|known| extension.eq_ignore_ascii_case(known))
}

fn read_listed(listing: &Listing, pass: &Pass) -> Reading {
    let limits = &pass.limits;
    let mut reading = Reading::default();
    let mut total_bytes = 0;
    for entry in &listing.entries {
        let id = FileId(u32::try_from(reading.files.len()).unwrap_or(u32::MAX));
        let text = match &entry.found {
            Err(message) => Err(unreadable(id, message.clone())),
            Ok(meta) if !meta.is_file() => {
                let message = "this is no regular file, so it is not read";
                Err(unreadable(id, message.to_string()))
            }
            Ok(meta) => match pass.steps.touch(&entry.path, Some(meta)) {
                Ok(()) => read_text(&entry.path, id, limits, &mut total_bytes).map_err(|it| *it),
                Err(error) => Err(unreadable(id, format!("this file cannot be read: {error}"))),
            },
        };
        let text = text.unwrap_or_else(|problem| {
            reading.problems.push(problem);
            String::new()
        });
        reading.files.push(SourceFile {
            path: entry.path.display().to_string(),
            text,
        });
        if total_bytes > limits.max_total_bytes {
            for file in &mut reading.files {
                file.text = String::new();
            }
            break;
        }
    }
    if listing.stopped_at_max_files {
        let message = format!("there are more than {} files to read", limits.max_files);
        reading.problems.push(
            Diagnostic::error("too-many-files", Place::Nowhere, message)
                .with_help("point to the folder that holds the configuration alone"),
        );
    }
    reading
}

fn unreadable(id: FileId, message: String) -> Diagnostic {
    Diagnostic::error("unreadable", Place::File(id), message)
        .with_help("let the user of this process read it, or keep it out of the directory")
}

fn read_text(
    path: &Path,
    id: FileId,
    limits: &ReadLimits,
    total_bytes: &mut u64,
) -> Result<String, Box<Diagnostic>> {
    let unreadable =
        |error: io::Error| Box::new(unreadable(id, format!("this file cannot be read: {error}")));
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(limits.max_file_bytes + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    let text = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes);
    if text.trim_ascii().is_empty() {
        // So does one look that is being written: taken as no documents, it would end all
        // listeners.
        let message = "this file is empty: it is being written, or its text was lost";
        return Err(Box::new(
            Diagnostic::error("empty-file", Place::File(id), message)
                .with_help("write its documents; to have none, leave a comment in it"),
        ));
    }
    let size = bytes.len() as u64;
    if size > limits.max_file_bytes {
        let message = format!("this file is larger than {} bytes", limits.max_file_bytes);
        return Err(Box::new(
            Diagnostic::error("file-too-large", Place::File(id), message)
                .with_help("split it: one load reads all files of the directory as one"),
        ));
    }
    *total_bytes += size;
    if *total_bytes > limits.max_total_bytes {
        let message = format!(
            "with this file the configuration is larger than {} bytes",
            limits.max_total_bytes
        );
        return Err(Box::new(Diagnostic::error(
            "configuration-too-large",
            Place::File(id),
            message,
        )));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|&&byte| byte == b'\n').count() + 1;
        let in_line = valid
            .rsplit(|&byte| byte == b'\n')
            .next()
            .unwrap_or_default();
        let column = String::from_utf8_lossy(in_line).chars().count() + 1;
        let position = Position {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
        };
        let place = Place::Position { file: id, position };
        let message = "the text is not UTF-8 from here on";
        Box::new(Diagnostic::error("not-utf-8", place, message).with_help("save the file as UTF-8"))
    })
}

#[cfg(test)]
#[path = "config_dir_tests.rs"]
mod tests;
