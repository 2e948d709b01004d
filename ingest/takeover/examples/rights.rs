//! Prints what this process may do here, and what each missing right costs.

fn main() {
    for finding in takeover::rights::probe() {
        println!("{finding}");
    }
}
