//! `codeword`: the symbols a viewer must have received in a segment.

use super::DONE;
use crate::records::{GopRecord, Records};
use crate::{Symbol, WatermarkId};
use anyhow::Result;
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

/// What is asked.
#[derive(Args)]
pub struct Asked {
    /// The state folder.
    #[arg(long, env = "RELEVE_DIR", default_value = "/var/lib/releve")]
    dir: PathBuf,
    /// The stream's public name.
    #[arg(long)]
    stream: String,
    /// The viewer's account.
    #[arg(long)]
    viewer: String,
    /// The segment's number.
    #[arg(long)]
    segment: u64,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// What a viewer must have received in a segment.
#[derive(Serialize)]
struct Codeword {
    stream: String,
    viewer: String,
    segment: u64,
    watermark_id: String,
    gops: Vec<GopSymbols>,
    symbols: String,
}

/// One GOP of it; `symbols` is empty unless it is marked.
#[derive(Serialize)]
struct GopSymbols {
    gop: String,
    start_90k: i64,
    marking: String,
    slices: u16,
    symbols: String,
}

/// Prints it.
///
/// # Errors
/// Says what is missing or wrong.
pub fn codeword(asked: Asked) -> Result<u8> {
    let Asked { dir, stream, viewer, segment, json } = asked;
    let records = Records::open(&dir)?;
    let gops = records.gops(&stream, segment)?;
    let id = WatermarkId::of_viewer(&viewer);
    if records.watermark_ids(&viewer)?.is_empty() {
        eprintln!(
            "note: the ledger has no session of `{viewer}`; these are the symbols one would have received"
        );
    }
    let gops = gops.iter().map(|gop| symbols(&records, id, gop)).collect::<Result<Vec<_>>>()?;
    let codeword = Codeword {
        watermark_id: hex(id),
        symbols: gops.iter().map(|gop| gop.symbols.as_str()).collect(),
        stream,
        viewer,
        segment,
        gops,
    };
    if json {
        println!("{}", serde_json::to_string(&codeword)?)
    } else {
        print_table(&codeword)
    }
    Ok(DONE)
}

fn symbols(records: &Records, id: WatermarkId, gop: &GopRecord) -> Result<GopSymbols> {
    let symbols = match gop.slices {
        0 => String::new(),
        slices => records.codebook(gop)?.symbols(id, gop.gop, slices).map(letter).collect(),
    };
    let (marking, id) = (gop.marking.clone(), gop.gop.0.map(|byte| format!("{byte:02x}")).concat());
    Ok(GopSymbols { gop: id, start_90k: gop.start_90k, marking, slices: gop.slices, symbols })
}

fn print_table(codeword: &Codeword) {
    println!("stream        {}", codeword.stream);
    println!("viewer        {}", codeword.viewer);
    println!("segment       {}", codeword.segment);
    println!("watermark id  {}", codeword.watermark_id);
    println!("\n{:<32}  {:>14}  {:<8}  SYMBOLS", "GOP", "START (90 kHz)", "MARKING");
    for gop in &codeword.gops {
        println!("{:<32}  {:>14}  {:<8}  {}", gop.gop, gop.start_90k, gop.marking, gop.symbols);
    }
}

fn letter(symbol: Symbol) -> char {
    match symbol {
        Symbol::A => 'A',
        Symbol::B => 'B',
    }
}

fn hex(id: WatermarkId) -> String {
    format!("{:016x}", id.0)
}
