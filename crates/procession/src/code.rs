//! Functions by name: how a child that begins as a new program finds the function that it is to run.
//!
//! This is the one place where an address that another process has named is called. What makes that sound:
//!
//! 1. The child runs the very file that its parent runs: it was started as `/proc/self/exe`.
//! 2. An address is sent as an object of the program (the executable, or a shared library by its path) and an offset in
//!    that object's *executable* memory; and with the object's **build id**, the linker's hash of its contents (where there
//!    is none, a hash of its program headers). The child looks the object up among those that are loaded, and refuses if
//!    there is none of that name, if the build id differs or if the offset is outside.
//! 3. The function that is called by that address is [`Shim`]`<A, R>`, whose type does not depend on A and R. It alone
//!    knows them, and turns the second address (sent in the same way) into the `fn(A) -> R` from which the parent made it:
//!    both come out of one generic function that was compiled once, so they fit each other. A **fingerprint** of the types'
//!    names, compared before anything is decoded, guards against two programs with the same build id, which do not exist.
//! 4. Only a parent can put a start message into a child's seat, and the members of a family trust each other.
#![allow(unsafe_code)]

use crate::message::{self, Encoded, Message};
use crate::outcome::Outcome;
use procession_core::family::Hold;
use serde::{Deserialize, Serialize};
use std::ffi::{CStr, c_int, c_void};

/// A function of this program, as another process that runs it finds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct CodeAddress {
    /// The path of the object; empty: the executable.
    object: String,
    build_id: Vec<u8>,
    offset: u64,
}

/// What all functions are called through: it knows their types.
type Shim = fn(&mut Call<'_>);

/// An object that is loaded into this process.
struct Object {
    path: String,
    base: usize,
    build_id: Vec<u8>,
    /// Its executable memory.
    code: Vec<std::ops::Range<usize>>,
}

impl CodeAddress {
    /// The address of a function, which must be code of an object that is loaded here.
    fn of(address: usize) -> Option<CodeAddress> {
        let object = find(|object| object.code.iter().any(|range| range.contains(&address)))?;
        Some(CodeAddress {
            offset: (address - object.base) as u64,
            object: object.path,
            build_id: object.build_id,
        })
    }

    /// Where it is in this process.
    fn here(&self) -> Result<usize, String> {
        let found = find(|object| object.path == self.object);
        let found = found.ok_or_else(|| format!("the library {} is not loaded here", self.object))?;
        if found.build_id != self.build_id {
            return Err("it runs another build of the program than its parent: the file was replaced".into());
        }
        let address = usize::try_from(self.offset)
            .ok()
            .and_then(|o| found.base.checked_add(o));
        address
            .filter(|address| found.code.iter().any(|range| range.contains(address)))
            .ok_or_else(|| "the function's address is no code".into())
    }
}

/// A function and its arguments, of types that only the shim knows; and afterwards, what came of it.
struct Call<'a> {
    function: usize,
    types: &'a str,
    arguments: Arguments<'a>,
    /// To be called when the arguments are decoded.
    decoded: &'a mut dyn FnMut(),
    outcome: Outcome,
}

/// Encoded arguments.
pub(crate) enum Arguments<'a> {
    /// Of a process: by postcard. So will the value be.
    Plain(&'a [u8]),
    /// Of a task: as a queue's message, with its encoding and what it carries. So will the value be.
    Message(&'a [u8], u32, Vec<Hold>),
}

/// A function of this program, as another process that runs it finds it.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Named {
    shim: CodeAddress,
    function: CodeAddress,
    types: String,
}

impl Named {
    /// The name of a function; None if it is not code of a loaded object.
    pub(crate) fn of<A: Message, R: Message>(function: fn(A) -> R) -> Option<Named> {
        let shim: Shim = shim::<A, R>;
        Some(Named {
            shim: CodeAddress::of(shim as usize)?,
            function: CodeAddress::of(function as usize)?,
            types: std::any::type_name::<fn(A) -> R>().to_owned(),
        })
    }

    /// Which function it is, in this process.
    pub(crate) fn key<A: Message, R: Message>(function: fn(A) -> R) -> (usize, usize) {
        let shim: Shim = shim::<A, R>;
        (shim as usize, function as usize)
    }

    /// The function, in this process.
    pub(crate) fn found(self) -> Result<Callable, String> {
        let shim = self.shim.here()?;
        Ok(Callable {
            // SAFETY: the address was made of a Shim by `of`, in a process that runs the same build (see the module);
            // functions and addresses are of one size.
            shim: unsafe { std::mem::transmute::<usize, Shim>(shim) },
            function: self.function.here()?,
            types: self.types,
        })
    }
}

/// A function that was found in this process.
pub(crate) struct Callable {
    shim: Shim,
    function: usize,
    types: String,
}

impl Callable {
    /// Calls it; `decoded` is called when the arguments have references of their own.
    pub(crate) fn call(&self, arguments: Arguments<'_>, decoded: &mut dyn FnMut()) -> Outcome {
        let mut call = Call {
            function: self.function,
            types: &self.types,
            arguments,
            decoded,
            outcome: Outcome::NotRun(String::new()),
        };
        (self.shim)(&mut call);
        call.outcome
    }
}

fn shim<A: Message, R: Message>(call: &mut Call<'_>) {
    if call.types != std::any::type_name::<fn(A) -> R>() {
        call.outcome =
            Outcome::NotRun("its function is of other types here: the program was replaced".into());
        return;
    }
    let is_task = matches!(call.arguments, Arguments::Message(..));
    let decoded = match &mut call.arguments {
        Arguments::Plain(bytes) => message::deserialized::<A>(bytes),
        Arguments::Message(bytes, encoding, carried) => {
            message::incoming::<A>(bytes, *encoding, None, std::mem::take(carried))
        }
    };
    let arguments = match decoded {
        Ok(arguments) => arguments,
        Err(e) => {
            call.outcome = Outcome::NotRun(format!("its arguments: {e}"));
            return;
        }
    };
    (call.decoded)();
    // SAFETY: the address was made of a `fn(A) -> R` together with that of this very function, by `Named::of`; see the
    // module. Functions and addresses are of one size.
    let function = unsafe { std::mem::transmute::<usize, fn(A) -> R>(call.function) };
    let encode = if is_task {
        Encoded::as_message
    } else {
        Encoded::plainly
    };
    call.outcome = Outcome::of(|| function(arguments), encode);
}

/// The first loaded object of which this is true.
fn find(is_it: impl FnMut(&Object) -> bool) -> Option<Object> {
    struct Search<F> {
        is_it: F,
        found: Option<Object>,
    }

    extern "C" fn look<F: FnMut(&Object) -> bool>(
        info: *mut libc::dl_phdr_info,
        _: usize,
        search: *mut c_void,
    ) -> c_int {
        // SAFETY: the loader passes a valid description and the pointer that it was given, for the length of this call.
        let (info, search) = unsafe { (&*info, &mut *search.cast::<Search<F>>()) };
        // SAFETY: the loader's own description of an object that is loaded, and stays so during the call.
        let object = unsafe { described(info) };
        if (search.is_it)(&object) {
            search.found = Some(object);
            return 1;
        }
        0
    }

    fn callback<F: FnMut(&Object) -> bool>(
        _: &F,
    ) -> unsafe extern "C" fn(*mut libc::dl_phdr_info, usize, *mut c_void) -> c_int {
        look::<F>
    }

    let mut search = Search { is_it, found: None };
    let callback = callback(&search.is_it);
    // SAFETY: the callback gets back the pointer to `search`, which outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(callback), (&raw mut search).cast()) };
    search.found
}

/// # Safety
/// `info` describes an object that is loaded.
unsafe fn described(info: &libc::dl_phdr_info) -> Object {
    let base = info.dlpi_addr as usize;
    // SAFETY: the name is a C string (contract).
    let path = unsafe { CStr::from_ptr(info.dlpi_name) };
    // SAFETY: so many program headers lie there (contract).
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    let place = |header: &libc::Elf64_Phdr| {
        let start = base.wrapping_add(header.p_vaddr as usize);
        start..start + header.p_memsz as usize
    };
    let code = headers
        .iter()
        .filter(|h| h.p_type == libc::PT_LOAD && h.p_flags & libc::PF_X != 0);
    let notes = headers.iter().filter(|h| h.p_type == libc::PT_NOTE);
    let build_id = notes
        .filter_map(|header| {
            let range = place(header);
            // SAFETY: notes of a loaded object are part of its loaded memory, and never change.
            let bytes = unsafe { std::slice::from_raw_parts(range.start as *const u8, range.len()) };
            build_id_in(bytes)
        })
        .next();
    Object {
        path: path.to_string_lossy().into_owned(),
        base,
        build_id: build_id.unwrap_or_else(|| hash_of(headers)),
        code: code.map(place).collect(),
    }
}

/// The build id among these notes: each has the lengths of its name and its contents, a type, and both, padded to 4.
fn build_id_in(mut notes: &[u8]) -> Option<Vec<u8>> {
    const BUILD_ID: u32 = 3;
    loop {
        let word = |at: usize| Some(u32::from_ne_bytes(notes.get(at..at + 4)?.try_into().ok()?));
        let (name, contents, kind) = (word(0)? as usize, word(4)? as usize, word(8)?);
        let start = 12 + name.next_multiple_of(4);
        if kind == BUILD_ID && notes.get(12..12 + name) == Some(b"GNU\0") {
            return notes.get(start..start + contents).map(<[u8]>::to_vec);
        }
        notes = notes.get(start + contents.next_multiple_of(4)..)?;
    }
}

/// FNV-1a of what the program headers say.
fn hash_of(headers: &[libc::Elf64_Phdr]) -> Vec<u8> {
    let words = headers.iter().flat_map(|h| {
        let flags = u64::from(h.p_type) << 32 | u64::from(h.p_flags);
        [flags, h.p_offset, h.p_vaddr, h.p_filesz, h.p_memsz, h.p_align]
    });
    let hash = words.fold(0xcbf2_9ce4_8422_2325, |hash: u64, word| {
        (hash ^ word).wrapping_mul(0x0100_0000_01b3)
    });
    hash.to_le_bytes().to_vec()
}
