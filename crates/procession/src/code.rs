//! Functions by name: how a child that begins as a new program finds the function that it is to run.
//!
//! This is the only module that calls an address which another process has sent. Four things make that sound:
//!
//! 1. The child runs the same file as its parent: it was started as `/proc/self/exe`.
//! 2. An address is sent as an object of the program (the executable, or a shared library by its path), an offset in that
//!    object's *executable* memory, and the object's **build id**: the linker's hash of its contents, or a hash of its
//!    program headers where there is no build id. The child looks for the object among those that it has loaded. It refuses
//!    the address if there is no object of that path, if the build id differs, or if the offset is outside of its code.
//! 3. The function that is called by such an address is [`Shim`]`<A, R>`, whose own type does not depend on A and R. Only the
//!    shim knows these types, and it turns the second address (sent in the same way) into the `fn(A) -> R` from which the
//!    parent made it. One generic function, compiled once, produces both addresses, so they fit each other. The child also
//!    compares the **names of the types** before it decodes anything, in case two different programs have one build id.
//! 4. Only a parent can put a start message into a child's seat, and the members of a family trust each other.
#![allow(unsafe_code)]

use crate::message::{self, Encoded, Message};
use crate::outcome::Outcome;
use procession_core::family::Hold;
use serde::{Deserialize, Serialize};
use std::ffi::{CStr, c_int, c_void};

/// The address of code in this program, in a form that another process running the same program can resolve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct CodeAddress {
    /// The path of the executable or library; empty for the executable.
    object: String,
    build_id: Vec<u8>,
    offset: u64,
}

/// The type of the functions through which all others are called: a shim knows the types of its function.
type Shim = fn(&mut Call<'_>);

/// An executable or library that is loaded into this process.
struct Object {
    path: String,
    base: usize,
    build_id: Vec<u8>,
    /// The address ranges of its executable memory.
    code: Vec<std::ops::Range<usize>>,
}

impl CodeAddress {
    /// Describes an address. None if it is not code of an object that is loaded here.
    fn new(address: usize) -> Option<CodeAddress> {
        let object = find(|object| object.code.iter().any(|range| range.contains(&address)))?;
        Some(CodeAddress {
            offset: (address - object.base) as u64,
            object: object.path,
            build_id: object.build_id,
        })
    }

    /// Returns the address in this process.
    ///
    /// # Errors
    /// The object is not loaded here, is of another build, or has no code at this offset; as text.
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
            .ok_or_else(|| "the function's address is not in the program's code".into())
    }
}

/// A call that a shim executes: a function and its arguments, whose types only the shim knows, and the outcome.
struct Call<'a> {
    function: usize,
    types: &'a str,
    arguments: Arguments<'a>,
    /// The shim calls this when it has decoded the arguments.
    decoded: &'a mut dyn FnMut(),
    outcome: Outcome,
}

/// The encoded arguments of a call.
pub(crate) enum Arguments<'a> {
    /// Arguments of a process, in postcard's format. The returned value is encoded in the same way.
    Plain(&'a [u8]),
    /// Arguments of a task: the bytes, encoding and references of a queue's message. So is the returned value.
    Message(&'a [u8], u32, Vec<Hold>),
}

/// The name of a function `fn(A) -> R` of this program, by which another process that runs the program finds it.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct FunctionName {
    shim: CodeAddress,
    function: CodeAddress,
    types: String,
}

impl FunctionName {
    /// Names a function. None if it is not code of an object that is loaded here.
    pub(crate) fn new<A: Message, R: Message>(function: fn(A) -> R) -> Option<FunctionName> {
        let shim: Shim = shim::<A, R>;
        Some(FunctionName {
            shim: CodeAddress::new(shim as usize)?,
            function: CodeAddress::new(function as usize)?,
            types: std::any::type_name::<fn(A) -> R>().to_owned(),
        })
    }

    /// Returns the function's name in the source, `program::module::function`, if the program's file says it and the function is
    /// no closure.
    pub(crate) fn in_source(&self) -> Option<String> {
        crate::symbol::function_at(&self.function.object, self.function.offset)
    }

    /// Returns a key that identifies the function in this process.
    pub(crate) fn key<A: Message, R: Message>(function: fn(A) -> R) -> (usize, usize) {
        let shim: Shim = shim::<A, R>;
        (shim as usize, function as usize)
    }

    /// Finds the function in this process.
    ///
    /// # Errors
    /// The program or the library is not the same here; as text.
    pub(crate) fn resolve(self) -> Result<Callable, String> {
        let shim = self.shim.here()?;
        Ok(Callable {
            // SAFETY: `new` made the address from a Shim, in a process that runs the same build (see the module). Functions
            // and addresses have the same size.
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
    /// Calls the function. `decoded` is called when the arguments are decoded and so have references of their own.
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

/// Decodes the arguments, calls the function with them, and encodes the returned value.
fn shim<A: Message, R: Message>(call: &mut Call<'_>) {
    if call.types != std::any::type_name::<fn(A) -> R>() {
        call.outcome = Outcome::NotRun("its function has other types here: the program was replaced".into());
        return;
    }
    let is_task = matches!(call.arguments, Arguments::Message(..));
    let decoded = match &mut call.arguments {
        Arguments::Plain(bytes) => message::deserialized::<A>(bytes),
        Arguments::Message(bytes, encoding, refs) => {
            message::incoming::<A>(bytes, *encoding, None, std::mem::take(refs))
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
    crate::transit::settle();
    // SAFETY: `FunctionName::new` made the address from a `fn(A) -> R`, together with the address of this very function,
    // in a process that runs the same build (see the module). Functions and addresses have the same size.
    let function = unsafe { std::mem::transmute::<usize, fn(A) -> R>(call.function) };
    let encode = if is_task {
        Encoded::as_message
    } else {
        Encoded::plainly
    };
    call.outcome = Outcome::run(|| function(arguments), encode);
}

/// Returns the first loaded object for which `is_it` returns true.
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
        // SAFETY: the loader passes a valid description and the pointer that `find` gave it, for the length of this call.
        let (info, search) = unsafe { (&*info, &mut *search.cast::<Search<F>>()) };
        // SAFETY: this is the loader's own description of an object that is loaded and stays so during the call.
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

/// Describes a loaded object.
///
/// # Safety
/// `info` is the loader's description of an object that is loaded and stays so during the call.
unsafe fn described(info: &libc::dl_phdr_info) -> Object {
    let base = info.dlpi_addr as usize;
    // SAFETY: the loader's description points to the object's path, a C string that stays during the call (contract).
    let path = unsafe { CStr::from_ptr(info.dlpi_name) };
    // SAFETY: the loader's description points to `dlpi_phnum` program headers that stay during the call (contract).
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
            // SAFETY: the notes of a loaded object are part of its read-only memory, which stays during the call.
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

/// Finds the build id in a segment of ELF notes (elf(5)). A note has the lengths of its name and of its contents, a type, the
/// name and the contents; the last two are padded to a multiple of 4 bytes.
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

/// Returns the FNV-1a hash of the program headers.
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
