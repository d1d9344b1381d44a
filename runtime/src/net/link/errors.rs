//! Why messages are not sent and asks not answered.

use std::time::Duration;

use crate::proto::packet::{AskCode, Executed};

/// Why a message could not be sent. It was certainly not executed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The link has ended.
    #[error("the link to {peer} is down: {reason}")]
    Down {
        /// Who was on the other side.
        peer: String,
        /// Why it ended.
        reason: String,
    },
    /// The peer reads too slowly; its queue is full.
    #[error("the link to {peer} is full: the other side reads too slowly")]
    Full {
        /// Who is on the other side.
        peer: String,
    },
    /// The peer takes no such message.
    #[error("{peer} takes no message {name} version {version}: it runs another version of engineroom")]
    NotAccepted {
        /// Who is on the other side.
        peer: String,
        /// The message.
        name: &'static str,
        /// Its version.
        version: u16,
    },
    /// The message could not be encoded, or is longer than any message may be.
    #[error("the message cannot be sent: {0}")]
    Encoding(String),
}

/// Why an ask has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// It was not sent. Certainly not executed.
    #[error(transparent)]
    NotSent(#[from] SendError),
    /// The peer refused it. `code` says whether it can have been executed.
    #[error("refused: {text}")]
    Refused {
        /// The kind of refusal.
        code: AskCode,
        /// What the peer says.
        text: String,
    },
    /// The link ended before the answer came. Whether it was executed is unknown.
    #[error("the link ended before the answer came: {0}")]
    LinkLost(String),
    /// No answer within the deadline. Whether it was executed is unknown.
    #[error("no answer within {0:?}")]
    Deadline(Duration),
    /// The answer is not what this side expects. It was executed.
    #[error("the answer cannot be read: {0}")]
    BadAnswer(String),
}

impl AskError {
    /// Whether the request certainly was not executed, so that it is safe to send it again.
    pub fn certainly_not_executed(&self) -> bool {
        match self {
            AskError::NotSent(_) => true,
            AskError::Refused { code, .. } => code.executed() == Executed::CertainlyNot,
            AskError::LinkLost(_) | AskError::Deadline(_) | AskError::BadAnswer(_) => false,
        }
    }
}
