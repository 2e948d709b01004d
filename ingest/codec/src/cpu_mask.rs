//! Tests only: lets this process pretend to an older CPU, to show that bytes do not depend on it.
//!
//! openh264 asks the CPU through its function `WelsCPUId`. A test or example that is linked with
//! `-Wl,--wrap=WelsCPUId` (the `mark` package's build script does so with the feature `cpu-mask`) asks `__wrap_WelsCPUId`
//! below instead, which hides what the environment variable `RELEVE_CPU_MASK` names: `avx2`, `avx`, `sse42`, `sse41`,
//! `ssse3` or `sse2` and everything newer than it, or `all`.

use std::arch::x86_64::__cpuid_count;
use std::ffi::c_uint;
use std::sync::atomic::{AtomicU32, Ordering};

/// Environment variable that names the oldest feature to hide.
pub const VARIABLE: &str = "RELEVE_CPU_MASK";

/// Questions answered.
static ASKED: AtomicU32 = AtomicU32::new(0);

/// How often openh264 has asked here; 0 means that the program was not linked as it should be.
pub fn times_asked() -> u32 {
    ASKED.load(Ordering::Relaxed)
}

/// Features by age, newest first: name, bits of leaf 1 ECX, of leaf 1 EDX, of leaf 7 EBX.
const FEATURES: [(&str, u32, u32, u32); 7] = [
    ("avx2", 0, 0, 1 << 5),
    ("avx", 1 << 28 | 1 << 12, 0, 0),
    ("sse42", 1 << 20, 0, 0),
    ("sse41", 1 << 19, 0, 0),
    ("ssse3", 1 << 9 | 1, 0, 0),
    ("sse2", 0, 1 << 26, 0),
    ("all", 0, 1 << 23, 0),
];

/// Bits to take away from leaf 1 ECX, leaf 1 EDX and leaf 7 EBX.
fn hidden() -> (u32, u32, u32) {
    let Ok(oldest) = std::env::var(VARIABLE) else { return (0, 0, 0) };
    let last = FEATURES.iter().position(|feature| feature.0 == oldest);
    let last = last.unwrap_or_else(|| panic!("{VARIABLE} is {oldest}: no such feature"));
    FEATURES[..=last]
        .iter()
        .fold((0, 0, 0), |sum, feature| (sum.0 | feature.1, sum.1 | feature.2, sum.2 | feature.3))
}

/// What openh264 calls in place of its `WelsCPUId` when linked as the module's first lines say.
///
/// # Safety
/// All four pointers must be valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __wrap_WelsCPUId(
    leaf: c_uint,
    eax: *mut u32,
    ebx: *mut u32,
    ecx: *mut u32,
    edx: *mut u32,
) {
    ASKED.fetch_add(1, Ordering::Relaxed);
    let mut found = __cpuid_count(leaf, 0);
    let (ecx_1, edx_1, ebx_7) = hidden();
    match leaf {
        1 => {
            found.ecx &= !ecx_1;
            found.edx &= !edx_1;
        }
        7 => found.ebx &= !ebx_7,
        _ => {}
    }
    // SAFETY: the caller's promise.
    unsafe {
        eax.write(found.eax);
        ebx.write(found.ebx);
        ecx.write(found.ecx);
        edx.write(found.edx);
    }
}
