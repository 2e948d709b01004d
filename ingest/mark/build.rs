//! With the feature `cpu-mask`, links tests and examples so that openh264 asks `codec::cpu_mask` what the CPU offers.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_CPU_MASK").is_some() {
        for kind in ["tests", "examples"] {
            println!("cargo:rustc-link-arg-{kind}=-Wl,--wrap=WelsCPUId");
        }
    }
}
