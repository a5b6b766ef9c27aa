//! Disputes and evidence, for the side of a rental that the request is about.

use super::NodeControl;
use api::{
    evidence::Evidence,
    types::{ApiError, Dispute, DisputeRequest, ErrorKind, Role},
};
use market::id::RentalId;

impl NodeControl {
    pub(super) async fn evidence_of(&self, prefix: String) -> Result<Vec<Evidence>, ApiError> {
        let (id, _) = self.rental_named(&prefix).await?;
        let mut files = Vec::new();
        if let Some(renter) = &self.renter {
            files.extend(renter.evidence(id).await?);
        }
        if let Some(provider) = &self.provider {
            files.extend(provider.evidence(id).await?);
        }
        Ok(files)
    }

    pub(super) async fn dispute_of(&self, prefix: String) -> Result<Dispute, ApiError> {
        let id = self.rented(&prefix).await?;
        self.renter()?.dispute(id).await
    }

    pub(super) async fn dispute_for(&self, prefix: String, request: DisputeRequest) -> Result<Dispute, ApiError> {
        let id = self.rented(&prefix).await?;
        self.renter()?.order_dispute(id, request).await
    }

    /// The rental of this name, of which this node is the renter.
    pub(super) async fn rented(&self, prefix: &str) -> Result<RentalId, ApiError> {
        // a whole id, as one that follows a dispute gives it again and again, needs no search
        if let (Ok(id), Some(renter)) = (prefix.parse(), &self.renter)
            && renter.knows(id).await?
        {
            return Ok(id);
        }
        let (id, role) = self.rental_named(prefix).await?;
        if role == Role::Renter {
            return Ok(id);
        }
        let short = id.short();
        let next = format!(
            "write down your side: node dispute {short} --export; close it with the best voucher: node stop {short}"
        );
        let message = format!("this node is the provider of rental {short}: only its renter can stop it on chain");
        Err(ApiError::new(ErrorKind::Usage, message, next))
    }

    /// The rental that `prefix` names, and which side this node is on: the renter's, of one with itself.
    async fn rental_named(&self, prefix: &str) -> Result<(RentalId, Role), ApiError> {
        let told = self.tell(prefix.to_owned()).await?;
        let first = told.first().map(|story| (story.rental.id, story.rental.role));
        first.ok_or_else(|| ApiError::new(ErrorKind::NoMatch, format!("there is no rental {prefix}"), ""))
    }
}
