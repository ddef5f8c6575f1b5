//! One DNS message and its answer, over TCP, both signed with TSIG (RFC 8945).
//!
//! It knows nothing of zones and updates. The exchange is made here rather than by the library's client, since that
//! one hides which of key, secret and clock the server refused.

use std::{io, net::SocketAddr, time::Duration};

use hickory_proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{TSigner, rdata::tsig::TsigError},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// How long connecting may take, over all addresses; and each message with its answer.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);

/// Seconds since 1970, as TSIG counts them.
pub type Clock = fn() -> u64;

/// Why there is no answer that can be trusted.
#[derive(Debug)]
pub(super) enum WireError {
    /// No connection.
    Connect(String),
    /// None within `DEADLINE`.
    Deadline,
    /// The connection ended, or brought something else.
    Garbled(String),
    /// The server does not know the key, or not with that algorithm.
    BadKey,
    /// The server computes another signature.
    BadSignature,
    /// The clocks are this many seconds apart.
    BadTime(u64),
    /// The answer is not signed, or wrongly.
    Unsigned,
    /// The server said so, about that name, and did nothing.
    Refused(String, ResponseCode),
}

impl WireError {
    /// Whether the server may have done what it was asked to.
    pub(super) fn is_ambiguous(&self) -> bool {
        match self {
            Self::Deadline | Self::Garbled(_) | Self::Unsigned => true,
            Self::Connect(_) | Self::BadKey | Self::BadSignature | Self::BadTime(_) | Self::Refused(..) => false,
        }
    }
}

/// A connection to a server.
pub(super) struct Session<'a> {
    stream: TcpStream,
    signer: &'a TSigner,
    clock: Clock,
}

impl<'a> Session<'a> {
    /// Connects to the first address that lets itself be connected to.
    pub(super) async fn open(addresses: &[SocketAddr], signer: &'a TSigner, clock: Clock) -> Result<Self, WireError> {
        let connecting = async {
            let mut last = None;
            for address in addresses {
                match TcpStream::connect(address).await {
                    Ok(stream) => return Ok(stream),
                    Err(error) => last = Some(error),
                }
            }
            Err(WireError::Connect(last.map_or_else(|| "it has no address".to_owned(), |it| it.kind().to_string())))
        };
        let silent = |_| WireError::Connect(format!("no answer within {} s", DEADLINE.as_secs()));
        let stream = timeout(DEADLINE, connecting).await.map_err(silent)??;
        Ok(Self { stream, signer, clock })
    }

    /// Signs and sends a message, and returns the answer once its signature is verified.
    pub(super) async fn exchange(&mut self, mut message: Message) -> Result<Message, WireError> {
        message.metadata.id = rand::random();
        let unencoded = |it: hickory_proto::ProtoError| WireError::Garbled(format!("the question: {it}"));
        let mut verifier = message.finalize(self.signer, (self.clock)()).map_err(unencoded)?;
        let question = message.to_vec().map_err(unencoded)?;
        let bytes = timeout(DEADLINE, self.transfer(&question))
            .await
            .map_err(|_| WireError::Deadline)?
            .map_err(|it| WireError::Garbled(it.kind().to_string()))?;

        let unreadable = |it: hickory_proto::serialize::binary::DecodeError| WireError::Garbled(it.to_string());
        let answer = Message::from_vec(&bytes).map_err(unreadable)?;
        if answer.id != message.id || answer.message_type != MessageType::Response {
            return Err(WireError::Garbled("an answer to another question".to_owned()));
        }
        // A refusal of the signature cannot be signed, or only with the server's time: it is believed as it is, since
        // who can forge it can as well let nothing through.
        if let Some(error) = answer.signature().and_then(|it| it.data.error) {
            return Err(refused(error, &answer, (self.clock)()));
        }
        let signed = verifier.as_mut().is_some_and(|it| it.verify(&bytes).is_ok());
        if signed { Ok(answer) } else { Err(WireError::Unsigned) }
    }

    /// Each message is preceded by its length in two bytes.
    async fn transfer(&mut self, question: &[u8]) -> io::Result<Vec<u8>> {
        let length = u16::try_from(question.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        self.stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
        let mut answer = vec![0; usize::from(self.stream.read_u16().await?)];
        self.stream.read_exact(&mut answer).await?;
        Ok(answer)
    }
}

fn refused(error: TsigError, answer: &Message, now: u64) -> WireError {
    match error {
        TsigError::BadKey => WireError::BadKey,
        TsigError::BadSig | TsigError::BadTrunc => WireError::BadSignature,
        TsigError::BadTime => {
            let other = answer.signature().map_or(&[][..], |it| &it.data.other);
            let theirs = other.iter().fold(0_u64, |sum, it| sum << 8 | u64::from(*it));
            WireError::BadTime(theirs.abs_diff(now))
        }
        TsigError::Unknown(code) => WireError::Garbled(format!("error {code} about the signature")),
    }
}
