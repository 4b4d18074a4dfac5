//! The memory that the program's own text takes while it is mapped.
//!
//! Reading a configuration runs through megabytes of code (YAML, the schema, the compiler) that
//! carries no traffic. The kernel counts every page that was touched as resident, and holds it for
//! in use, until it runs short.

use std::ffi::c_void;

/// Unmaps the pages of the program and its libraries that are never written: text and constants.
/// They stay in the page cache, and what is used comes back with the next access, in a few
/// microseconds.
///
/// To be called after a configuration was loaded. Breakpoints of a debugger, which are written into
/// the text, are lost.
pub fn let_go_of_own_text() {
    // SAFETY: the callback has the type that is asked for, and takes no data.
    unsafe { libc::dl_iterate_phdr(Some(let_go_of_object), std::ptr::null_mut()) };
}

/// Called for each object that is loaded; 0 asks for the next one.
extern "C" fn let_go_of_object(
    object: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    _data: *mut c_void,
) -> i32 {
    // SAFETY: the loader passes a valid object, which stays for the length of the call.
    let object = unsafe { &*object };
    if object.dlpi_phdr.is_null() {
        return 0;
    }
    let count = usize::from(object.dlpi_phnum);
    // SAFETY: the loader tells how many headers there are.
    let segments = unsafe { std::slice::from_raw_parts(object.dlpi_phdr, count) };
    for segment in segments {
        if segment.p_type != libc::PT_LOAD || segment.p_flags & libc::PF_W != 0 {
            continue;
        }
        let from = (object.dlpi_addr + segment.p_vaddr) as usize;
        let to = from + segment.p_memsz as usize;
        let from = from.next_multiple_of(PAGE_BYTES);
        let to = to & !(PAGE_BYTES - 1);
        if from < to {
            // SAFETY: a mapping of a file that nobody may write, so each page is read from the file
            // again with what it had. Relocated constants are in segments that say to be writable,
            // also where they are protected later. A refusal changes nothing.
            unsafe { libc::madvise(from as *mut c_void, to - from, libc::MADV_DONTNEED) };
        }
    }
    0
}

const PAGE_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn resident_file_kb() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").expect("is there");
        let line = status.lines().find(|line| line.starts_with("RssFile:"));
        let value = line.and_then(|line| line.split_whitespace().nth(1));
        value.expect("is there").parse().expect("a number")
    }

    #[test]
    fn text_that_is_not_used_is_not_resident() {
        // Touches code that nothing needs afterwards.
        let sorted = regex::Regex::new(r"(?i)\w+\p{Greek}*").expect("compiles");
        assert!(sorted.is_match("A"));
        let before = resident_file_kb();
        let_go_of_own_text();
        let after = resident_file_kb();
        assert!(after < before, "{before} kB before, {after} kB after");
        assert!(sorted.is_match("B"));
    }
}
