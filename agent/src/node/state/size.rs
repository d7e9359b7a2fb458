//! Sizes as people write them.

/// Bytes in binary units, for memory and file systems: `1.9 GiB`.
pub(super) fn size(bytes: u64) -> String {
    scaled(bytes, 1024.0, ["KiB", "MiB", "GiB", "TiB"])
}

/// Bytes in decimal units, as disks are sold and as `size:` takes them: `500.1 GB`.
pub(super) fn disk_size(bytes: u64) -> String {
    scaled(bytes, 1000.0, ["kB", "MB", "GB", "TB"])
}

fn scaled(bytes: u64, step: f64, units: [&str; 4]) -> String {
    let mut value = bytes as f64;
    let mut unit = "bytes";
    for next in units {
        if value < step {
            break;
        }
        value /= step;
        unit = next;
    }
    match unit {
        "bytes" => format!("{bytes} bytes"),
        unit => format!("{value:.1} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_counts_in_binary_and_disks_in_decimal_units() {
        assert_eq!(size(2040109466), "1.9 GiB");
        assert_eq!(size(512), "512 bytes");
        assert_eq!(disk_size(500_107_862_016), "500.1 GB");
    }
}
