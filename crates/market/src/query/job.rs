//! A job as far as its cost can be told beforehand: `tflop=1e6 gb=5e5 seconds=120`. Its time on a slot is the longer of its arithmetic at
//! the slot's measured throughput and its memory traffic at the measured bandwidth, and what takes its time anywhere. A dearer GPU is
//! often the cheaper run.

use super::{
    fields::{LONGEST, MEMORY_SPEED_TOTAL, PRICE, TFLOPS_TOTAL},
    order::Row,
    read::Cell,
};
use std::str::FromStr;

/// Decimal digits that are kept of what is asked for.
const DIGITS: usize = 3;
const SCALE: u128 = 1_000;
/// The largest power of ten in a description: a year of a hundred thousand of today's largest GPUs is below 1e16 TFLOP.
const LARGEST_EXPONENT: usize = 18;

/// A job: what it needs, in thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Job {
    tflop: u128,
    gigabytes: u128,
    seconds: u128,
}

/// A description of a job that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// Not one of the three needs.
    #[error(
        "`{0}` is no need of a job: write tflop=1e6 (arithmetic), gb=5e5 (memory traffic), seconds=120 (anything else)"
    )]
    Need(String),
    /// Not a number.
    #[error("`{0}` is not a number such as 1500, 2.5 or 1e6")]
    Number(String),
    /// Nothing is needed.
    #[error("the job needs nothing: say tflop=…, gb=… or seconds=…")]
    Nothing,
}

impl FromStr for Job {
    type Err = JobError;

    fn from_str(text: &str) -> Result<Self, JobError> {
        let mut job = Self::default();
        for part in text.split_whitespace() {
            let (name, value) = part.split_once('=').ok_or_else(|| JobError::Need(part.to_owned()))?;
            let need = match name {
                "tflop" => &mut job.tflop,
                "gb" => &mut job.gigabytes,
                "seconds" => &mut job.seconds,
                _ => return Err(JobError::Need(name.to_owned())),
            };
            *need = thousandths(value).ok_or_else(|| JobError::Number(value.to_owned()))?;
        }
        if job == Self::default() { Err(JobError::Nothing) } else { Ok(job) }
    }
}

/// A decimal with an optional power of ten, in thousandths; what is finer is rounded up.
fn thousandths(text: &str) -> Option<u128> {
    let (number, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: usize = exponent.parse().ok().filter(|exponent| *exponent <= LARGEST_EXPONENT)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0
        || whole.len() + fraction.len() > LARGEST_EXPONENT
        || !plain(whole)
        || !plain(fraction)
    {
        return None;
    }
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let (up, down) = (DIGITS + exponent, fraction.len());
    let power = |digits: usize| 10u128.checked_pow(u32::try_from(digits).ok()?);
    if up >= down { digits.checked_mul(power(up - down)?) } else { Some(digits.div_ceil(power(down - up)?)) }
}

impl Job {
    /// How long it takes on a slot, in whole seconds; `None` when the slot's throughput is not known, or it may not be rented for so long.
    pub(crate) fn seconds_on<'a>(&self, read: impl Fn(usize) -> Cell<'a>) -> Option<i64> {
        let number = |field| match read(field) {
            Cell::Number(number) => u128::try_from(number).ok().filter(|number| *number > 0),
            _ => None,
        };
        let share = |need: u128, field, per_second: u128| match need {
            0 => Some(0),
            // the field counts in parts of what the need is said in
            need => Some((need * per_second).div_ceil(number(field)?)),
        };
        let arithmetic = share(self.tflop, TFLOPS_TOTAL, 10)?;
        let memory = share(self.gigabytes, MEMORY_SPEED_TOTAL, 1)?;
        let seconds = (arithmetic.max(memory) + self.seconds).div_ceil(SCALE);
        if number(LONGEST).is_some_and(|longest| seconds > longest) {
            return None;
        }
        i64::try_from(seconds).ok()
    }

    /// What it costs on a slot, in billionths of the token, rounded up.
    pub(crate) fn cost_on<'a>(&self, read: impl Fn(usize) -> Cell<'a>) -> Option<i64> {
        let Cell::Number(price) = read(PRICE) else { return None };
        let cost = (i128::from(price) * i128::from(self.seconds_on(read)?) + 3_599) / 3_600;
        Some(i64::try_from(cost).unwrap_or(i64::MAX))
    }

    /// How long it takes on what a candidate offers, in whole seconds; `None` when that is not known, or longer than it is rented for.
    pub fn seconds(&self, candidate: &super::Candidate<'_>) -> Option<u32> {
        self.seconds_on(|field| candidate.cell(field)).and_then(|seconds| u32::try_from(seconds).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_described_by_what_it_needs() {
        let job: Job = "tflop=1e6 gb=2.5 seconds=.001".parse().unwrap();
        assert_eq!(job, Job { tflop: 1_000_000_000, gigabytes: 2_500, seconds: 1 });
        assert_eq!("seconds=0.00001".parse::<Job>().unwrap().seconds, 1, "nothing is rounded to nothing");
        assert_eq!("flops=3".parse::<Job>(), Err(JobError::Need("flops".into())));
        assert_eq!("tflop=1e99".parse::<Job>(), Err(JobError::Number("1e99".into())));
        for nothing in ["", "tflop=0"] {
            assert_eq!(nothing.parse::<Job>(), Err(JobError::Nothing));
        }
    }
}
