//! The provider's end: what the renter asks goes to the sandbox as it is, and so do the answers back. Nothing is kept here beyond what is
//! under way, so whoever does not take its answers is held up and nobody else.

use super::codec::{HostEnd, framed};
use crate::AccessError;
use futures::{SinkExt, StreamExt, TryStreamExt};
use sandbox::FileChannel;
use std::pin::pin;
use tokio::io::{AsyncRead, AsyncWrite};

/// Passes requests and replies on until the renter has ended its side and has its answers, or the sandbox is gone.
pub async fn serve_files<S: AsyncRead + AsyncWrite>(stream: S, channel: FileChannel) -> Result<(), AccessError> {
    let (asked, answers) = framed(stream, HostEnd);
    let asking = asked.map_err(AccessError::from).forward(channel.requests.sink_map_err(AccessError::from));
    let answering = channel.replies.map_err(AccessError::from).forward(answers.sink_map_err(AccessError::from));
    let mut answering = pin!(answering);
    tokio::select! {
        asked = asking => {
            asked?;
            answering.await
        }
        answered = &mut answering => answered,
    }
}
