//! Messages as bytes. What cannot be read is the sender's mistake, and the status says so:
//! on INTERNAL, which tonic has for it, workers send the same bytes ten times.

use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// Protocol buffers, refused by the right name.
#[derive(Clone, Debug)]
pub struct Messages<T, U>(ProstCodec<T, U>);

impl<T, U> Default for Messages<T, U> {
    fn default() -> Self {
        Self(ProstCodec::new())
    }
}

impl<T, U> Codec for Messages<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = Reader<U>;

    fn encoder(&mut self) -> Self::Encoder {
        self.0.encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        Reader(self.0.decoder())
    }
}

/// Reads messages of one kind.
#[derive(Debug)]
pub struct Reader<U>(ProstDecoder<U>);

impl<U: Message + Default> Decoder for Reader<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        let unreadable = |status: Status| {
            Status::invalid_argument(format!("the message cannot be read: {}", status.message()))
        };
        self.0.decode(bytes).map_err(unreadable)
    }
}
