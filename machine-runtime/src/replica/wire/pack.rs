//! Compression of large answers, where it pays.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

use super::{Blob, Malformed, News};

/// From how many bytes on an answer is tried to be compressed: one that fits into a packet gains nothing.
const LEAST: usize = 1024;

impl News {
    /// About how many bytes it takes.
    fn size(&self) -> usize {
        match self {
            Self::Delta { delta, .. } => delta.0.len(),
            Self::Snapshot { snapshot, .. } => snapshot.0.len(),
            Self::Deltas { deltas, .. } | Self::Traced { deltas, .. } => {
                deltas.iter().map(|delta| delta.0.len()).sum()
            }
            Self::Idle { .. } | Self::Closing | Self::Packed(_) => 0,
        }
    }
}

/// Compresses an answer if that saves an eighth of it.
pub(in crate::replica) fn pack(news: News) -> News {
    if news.size() < LEAST {
        return news;
    }
    let whole = postcard::to_stdvec(&news).expect("numbers and bytes can always be encoded");
    let mut packed = DeflateEncoder::new(Vec::new(), Compression::fast());
    let packed = packed.write_all(&whole).and_then(|()| packed.finish());
    let packed = packed.expect("a vector takes what is written");
    if packed.len() > whole.len() / 8 * 7 {
        return news;
    }
    News::Packed(Blob(packed))
}

/// An answer as it was before it was compressed, of `most` bytes at most.
pub(in crate::replica) fn unpack(news: News, most: usize) -> Result<News, Malformed> {
    let News::Packed(packed) = news else {
        return Ok(news);
    };
    let malformed = Malformed("compressed answer");
    let mut whole = Vec::new();
    let more = most as u64 + 1;
    let read = DeflateDecoder::new(&packed.0[..])
        .take(more)
        .read_to_end(&mut whole);
    read.map_err(|_malformed| malformed)?;
    if whole.len() > most {
        return Err(malformed);
    }
    match postcard::from_bytes(&whole) {
        Ok(News::Packed(_)) | Err(_) => Err(malformed),
        Ok(news) => Ok(news),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delta(bytes: Vec<u8>) -> News {
        let (age_ms, delta) = (7, Blob(bytes));
        News::Delta { age_ms, delta }
    }

    #[test]
    fn what_is_large_and_repeats_itself_is_packed_and_is_the_same_afterwards() {
        let news = delta(vec![1; 5_000]);
        let packed = pack(news.clone());
        assert!(matches!(&packed, News::Packed(bytes) if bytes.0.len() < 100));
        assert_eq!(unpack(packed.clone(), 6_000), Ok(news));
        assert!(unpack(packed, 4_000).is_err(), "larger than a frame");
    }

    #[test]
    fn what_is_small_or_gains_nothing_stays_as_it_is() {
        let small = delta(vec![1; 1_000]);
        assert_eq!(pack(small.clone()), small);
        let mut random = fastrand::Rng::with_seed(1);
        let noise = delta(
            std::iter::repeat_with(|| random.u8(..))
                .take(5_000)
                .collect(),
        );
        assert_eq!(pack(noise.clone()), noise);
        assert_eq!(
            unpack(noise.clone(), 10),
            Ok(noise),
            "bounded by its frame already"
        );
    }

    #[test]
    fn what_cannot_be_read_or_is_packed_twice_is_malformed() {
        assert!(unpack(News::Packed(Blob(vec![9; 50])), 1_000).is_err());
        let twice = postcard::to_stdvec(&pack(delta(vec![1; 5_000]))).unwrap();
        let mut packed = DeflateEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&twice).unwrap();
        let twice = News::Packed(Blob(packed.finish().unwrap()));
        assert!(unpack(twice, 1_000).is_err());
    }
}
