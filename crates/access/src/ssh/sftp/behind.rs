//! Writing behind. A write is acknowledged when it has been sent, so that a client need not wait for the long way. If it fails, the next
//! write says so, and so do the sync and the closing of the file, which wait for all that is under way.

use futures::FutureExt;
use sandbox::{Answer, FileCallError, FileClient, FileError, FileOperation, Handle, MAX_PIECE};
use std::collections::VecDeque;

/// The writes of one open file whose outcome is not known. The file protocol bounds what is under way.
#[derive(Default)]
pub(super) struct Behind {
    under_way: VecDeque<Answer>,
    /// The first that failed. It stays so: what the file holds now is not what was written.
    failed: Option<FileError>,
}

impl Behind {
    /// Sends a write, or says why an earlier one failed.
    pub(super) async fn write(
        &mut self,
        (client, handle): (&FileClient, Handle),
        mut offset: u64,
        data: &[u8],
    ) -> Result<(), FileCallError> {
        while let Some(outcome) = self.under_way.front_mut().and_then(FutureExt::now_or_never) {
            self.under_way.pop_front();
            self.note(outcome.map(|_| ()))?;
        }
        if let Some(error) = &self.failed {
            return Err(error.clone().into());
        }
        for piece in data.chunks(MAX_PIECE) {
            let answer = client.send(FileOperation::Write { handle, offset }, piece.to_vec()).await?;
            self.under_way.push_back(answer);
            offset = offset.saturating_add(piece.len() as u64);
        }
        Ok(())
    }

    /// Waits for what is under way, and says whether all of it, and all before it, was done.
    pub(super) fn settle(&mut self) -> impl Future<Output = Result<(), FileCallError>> + Send + 'static {
        let rest = Self { under_way: std::mem::take(&mut self.under_way), failed: self.failed.clone() };
        rest.settled()
    }

    async fn settled(mut self) -> Result<(), FileCallError> {
        while let Some(answer) = self.under_way.pop_front() {
            let outcome = answer.await.map(|_| ());
            self.note(outcome)?;
        }
        self.failed.map_or(Ok(()), |error| Err(error.into()))
    }

    fn note(&mut self, outcome: Result<(), FileCallError>) -> Result<(), FileCallError> {
        match outcome {
            Err(FileCallError::Failed(error)) => {
                self.failed.get_or_insert(error);
                Ok(())
            }
            outcome => outcome,
        }
    }
}
