//! A listing as a person reads it: which cards, which PTX, how often. How images are packed is in the JSON alone.

use super::{Blob, Code, Inspection};
use std::fmt;

impl fmt::Display for Blob {
    /// `10 × sm_80, sm_90a, PTX 8.8 for sm_121`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ×", self.count)?;
        for (number, image) in self.images.iter().enumerate() {
            f.write_str(if number == 0 { " " } else { ", " })?;
            image.write_code(f)?;
        }
        Ok(())
    }
}

impl super::Image {
    pub(super) fn write_code(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Code::Cubin => write!(f, "{}", self.target),
            Code::Ptx { isa } => write!(f, "PTX {isa} for {}", self.target),
            Code::LtoIr => write!(f, "LTO-IR for {}", self.target),
            Code::Other { number } => write!(f, "code of the unknown kind {number} for {}", self.target),
        }
    }
}

impl fmt::Display for Inspection {
    /// A line about the whole, and one for each kind of container.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.form)?;
        let containers: u64 = self.blobs.iter().map(|blob| u64::from(blob.count)).sum();
        if containers == 0 {
            f.write_str(", no GPU code that can run")?;
        } else {
            write!(f, ", {} of GPU code", counted(containers, "container"))?;
        }
        if self.stubs > 0 {
            write!(f, ", {} without any", counted(self.stubs.into(), "stub"))?;
        }
        if self.relocatable > 0 {
            write!(f, ", {} still to be linked", self.relocatable)?;
        }
        self.blobs.iter().try_for_each(|blob| write!(f, "\n  {blob}"))
    }
}

fn counted(count: u64, word: &str) -> String {
    if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") }
}

#[cfg(test)]
mod tests {
    use crate::fatbin::{Compression, Form, Image, PtxVersion};

    use super::*;

    #[test]
    fn a_listing_is_a_line_for_the_file_and_one_for_each_kind_of_container() {
        let image = |code, target: &str| Image { code, target: target.parse().unwrap(), compression: Compression::Lz4 };
        let isa = PtxVersion { major: 8, minor: 8 };
        let images =
            vec![image(Code::Cubin, "sm_90a"), image(Code::Ptx { isa }, "sm_121"), image(Code::LtoIr, "sm_80")];
        let one = Blob { count: 1, images: vec![image(Code::Other { number: 77 }, "sm_100f")] };
        let mut found = Inspection { form: Form::Linked, blobs: vec![], stubs: 0, relocatable: 0 };
        assert_eq!(found.to_string(), "program or library, no GPU code that can run");
        found.relocatable = 2;
        assert_eq!(found.to_string(), "program or library, no GPU code that can run, 2 still to be linked");
        found = Inspection { blobs: vec![Blob { count: 10, images }, one], stubs: 1, ..found };
        assert_eq!(
            found.to_string(),
            "program or library, 11 containers of GPU code, 1 stub without any, 2 still to be linked\n  \
             10 × sm_90a, PTX 8.8 for sm_121, LTO-IR for sm_80\n  \
             1 × code of the unknown kind 77 for sm_100f"
        );
    }
}
