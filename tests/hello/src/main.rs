//! The program in the demonstration images: prints one sentence and ends.

fn main() {
    println!("Hello from Docker!");
    println!("This image was served from a Haulboot stick.");
}
