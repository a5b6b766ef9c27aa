//! How a process ended, as the network says it.

use crate::AccessError;
use sandbox::Exit;
use wire::proto::{self, job_end::How};

/// What the provider says of an end.
pub(crate) fn exit_to_proto(exit: Exit, disk_full: bool) -> proto::JobEnd {
    let how = match exit {
        Exit::Code { code } => How::Code(code.unsigned_abs()),
        Exit::Signal { signal } => How::Signal(signal.unsigned_abs()),
        Exit::OutOfMemory => How::OutOfMemory(proto::OutOfMemory {}),
    };
    proto::JobEnd { how: Some(how), exit_code: exit.shell_code().unsigned_abs(), disk_full }
}

/// What the renter hears of it.
pub(crate) fn exit_from_proto(end: &proto::JobEnd) -> Result<Exit, AccessError> {
    let number = |n: u32| i32::try_from(n).map_err(|_| AccessError::Protocol("an exit code that no system has"));
    Ok(match &end.how {
        Some(How::Code(code)) => Exit::Code { code: number(*code)? },
        Some(How::Signal(signal)) => Exit::Signal { signal: number(*signal)? },
        Some(How::OutOfMemory(_)) => Exit::OutOfMemory,
        Some(How::NotStarted(_)) | None => Exit::Code { code: number(end.exit_code)? },
    })
}
