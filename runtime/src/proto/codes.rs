//! The codes that say why: why an ask failed, an actor ended, a link was closed or a handshake refused.
//!
//! Numbers are part of the wire format: one is never given a second meaning.

use std::fmt;

macro_rules! codes {
    (
        $(#[$enum_doc:meta])*
        $name:ident: $number:ty {
            $($(#[$doc:meta])* $variant:ident = $value:literal => $text:literal,)*
        }
    ) => {
        $(#[$enum_doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr($number)]
        pub enum $name {
            $($(#[$doc])* $variant = $value,)*
        }

        impl $name {
            /// Every code, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The number on the wire.
            pub const fn code(self) -> $number {
                self as $number
            }

            /// The code of a number from the wire, if there is one.
            pub const fn from_code(number: $number) -> Option<Self> {
                match number {
                    $($value => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $text,)*
                })
            }
        }
    };
}

codes! {
    /// Why a peer did not answer an ask with a reply.
    AskCode: u16 {
        /// The actor's gate is full. The message was not delivered; it may be sent again later.
        Busy = 1 => "the actor is busy",
        /// No actor of that number is exported.
        NoSuchActor = 2 => "there is no such actor",
        /// The sender's role may not send this message to this actor.
        NotAllowed = 3 => "the sender's role may not do that",
        /// The message's index is not in the receiver's table, or the actor does not take that message.
        UnknownMessage = 4 => "the actor does not take that message",
        /// The payload could not be decoded.
        BadPayload = 5 => "the message could not be decoded",
        /// The actor stopped before it replied.
        ActorStopped = 6 => "the actor stopped before it replied",
        /// The actor's handler panicked.
        Panicked = 7 => "the actor's handler panicked",
        /// The deadline passed before there was a reply.
        Expired = 8 => "the deadline passed",
        /// The request is longer than the receiver accepts.
        TooLarge = 9 => "the message is too long",
        /// There was a reply, but it is longer than the asker accepts.
        ReplyTooLarge = 10 => "the reply is too long",
    }
}

impl AskCode {
    /// Whether the actor may have acted on the request.
    pub const fn executed(self) -> Executed {
        match self {
            Self::Busy | Self::NoSuchActor | Self::NotAllowed | Self::UnknownMessage | Self::BadPayload | Self::TooLarge => {
                Executed::CertainlyNot
            }
            Self::ActorStopped | Self::Panicked | Self::Expired | Self::ReplyTooLarge => Executed::Unknown,
        }
    }
}

/// What is known about a request that failed: decides whether it may be repeated blindly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Executed {
    /// No handler saw the request. Repeating it cannot do anything twice.
    CertainlyNot,
    /// The request may have been acted on, in whole or in part.
    Unknown,
}

impl fmt::Display for Executed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CertainlyNot => "certainly not executed",
            Self::Unknown => "unknown whether executed",
        })
    }
}

codes! {
    /// Why a monitored actor is gone.
    TerminatedCode: u16 {
        /// The actor stopped of its own accord or because its node is stopping.
        Stopped = 1 => "the actor stopped",
        /// A handler of the actor panicked. A policy may have restarted it; its state is lost all the same.
        Panicked = 2 => "the actor panicked",
        /// There was no such actor to monitor.
        NoSuchActor = 3 => "there is no such actor",
        /// The monitoring node's role does not reach that actor.
        NotAllowed = 4 => "the actor is not exported to this role",
        /// The actor has as many monitors as it allows; nothing is known about its end.
        Refused = 5 => "the actor has too many monitors",
        /// The link to the actor's node is lost. Stated by the monitoring side itself, never on the wire.
        LinkLost = 6 => "the link to the actor's node is lost",
    }
}

codes! {
    /// Why a link was closed. Travels in `Goodbye` and as QUIC's application close code.
    CloseCode: u32 {
        /// The peer let go of the connection without a word. QUIC's close code when a connection is merely dropped.
        Dropped = 0 => "the connection was dropped",
        /// The peer has finished.
        Done = 1 => "finished",
        /// The peer is shutting down and has delivered what it held.
        Drain = 2 => "shutting down",
        /// The peer saw bytes that the protocol does not allow.
        ProtocolViolation = 3 => "protocol violation",
        /// The handshake took too long.
        HandshakeTimeout = 4 => "the handshake took too long",
        /// The handshake was rejected; `Reject` said why.
        Rejected = 5 => "the handshake was rejected",
        /// A bounded queue of the peer ran over because this side sent more than it was granted.
        Overrun = 6 => "more was sent than was granted",
        /// The peer has as many links as it allows.
        TooManyPeers = 7 => "too many peers",
        /// The peer failed for a reason of its own.
        Internal = 8 => "internal error",
        /// The certificate of this node is no longer accepted.
        Revoked = 9 => "the certificate was revoked",
        /// A newer link of the same node took this one's place.
        Superseded = 10 => "a newer link of the same node took over",
    }
}

codes! {
    /// Why a node refused another's `Hello`.
    RejectCode: u16 {
        /// There is no protocol version that both nodes speak.
        Version = 1 => "no common protocol version",
        /// The certificate's role or name is not allowed in.
        NotAllowed = 2 => "not allowed",
        /// The node has as many links as it allows.
        TooManyPeers = 3 => "too many peers",
        /// The node is shutting down.
        Draining = 4 => "shutting down",
        /// The first frame was no well-formed `Hello`.
        BadHello = 5 => "malformed greeting",
        /// Another node of the same name is connected.
        NameTaken = 6 => "a node of that name is connected",
        /// The node's certificate was revoked.
        Revoked = 7 => "the certificate was revoked",
        /// A reason that this version has no number for; the text says it.
        Other = 65535 => "rejected",
    }
}

impl RejectCode {
    /// The code of a number from the wire. Never fails: a peer of another version may have reasons of its own, and the
    /// user should see its text rather than a complaint about its number.
    pub(crate) const fn from_code_or_other(number: u16) -> Self {
        match Self::from_code(number) {
            Some(code) => code,
            None => Self::Other,
        }
    }

    /// Whether dialling again later can succeed without anybody changing a configuration or a program.
    pub const fn is_retryable(self) -> bool {
        match self {
            Self::TooManyPeers | Self::Draining | Self::NameTaken | Self::Other => true,
            Self::Version | Self::NotAllowed | Self::BadHello | Self::Revoked => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip_and_unknown_ones_are_none() {
        for &code in AskCode::ALL {
            assert_eq!(AskCode::from_code(code.code()), Some(code));
        }
        for &code in TerminatedCode::ALL {
            assert_eq!(TerminatedCode::from_code(code.code()), Some(code));
        }
        for &code in CloseCode::ALL {
            assert_eq!(CloseCode::from_code(code.code()), Some(code));
        }
        for &code in RejectCode::ALL {
            assert_eq!(RejectCode::from_code(code.code()), Some(code));
        }
        assert_eq!(AskCode::from_code(0), None);
        assert_eq!(AskCode::from_code(11), None);
        assert_eq!(TerminatedCode::from_code(7), None);
        assert_eq!(CloseCode::from_code(11), None);
        assert_eq!(RejectCode::from_code_or_other(12_345), RejectCode::Other);
    }

    #[test]
    fn the_numbers_are_the_wire_format() {
        let asks: Vec<u16> = AskCode::ALL.iter().map(|code| code.code()).collect();
        assert_eq!(asks, (1..=10).collect::<Vec<_>>());
        assert_eq!(AskCode::TooLarge.code(), 9);
        let ends: Vec<u16> = TerminatedCode::ALL.iter().map(|code| code.code()).collect();
        assert_eq!(ends, (1..=6).collect::<Vec<_>>());
        let closes: Vec<u32> = CloseCode::ALL.iter().map(|code| code.code()).collect();
        assert_eq!(closes, (0..=10).collect::<Vec<_>>());
        assert_eq!(CloseCode::Revoked.code(), 9);
        let rejects: Vec<u16> = RejectCode::ALL.iter().map(|code| code.code()).collect();
        assert_eq!(rejects, [1, 2, 3, 4, 5, 6, 7, 65535]);
    }

    #[test]
    fn only_what_no_handler_saw_is_certainly_not_executed() {
        let unknown: Vec<AskCode> = AskCode::ALL.iter().copied().filter(|code| code.executed() == Executed::Unknown).collect();
        assert_eq!(unknown, [AskCode::ActorStopped, AskCode::Panicked, AskCode::Expired, AskCode::ReplyTooLarge]);
    }
}
