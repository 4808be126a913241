//! Figures that were measured several times.

/// Figures of one kind, in rising order.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Samples {
    sorted: Vec<f64>,
}

impl Samples {
    /// # Panics
    ///
    /// If there are none.
    pub(crate) fn new(values: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        assert!(!sorted.is_empty(), "nothing was measured");
        sorted.sort_unstable_by(f64::total_cmp);
        Self { sorted }
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The figure that the part `q` of all do not exceed.
    pub(crate) fn quantile(&self, q: f64) -> f64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "a place in a list that fits into memory"
        )]
        let place = ((self.sorted.len() - 1) as f64 * q).round() as usize;
        self.sorted[place]
    }

    pub(crate) fn min(&self) -> f64 {
        self.sorted[0]
    }

    pub(crate) fn max(&self) -> f64 {
        self.sorted[self.sorted.len() - 1]
    }

    pub(crate) fn len(&self) -> usize {
        self.sorted.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_members() {
        let samples = Samples::new([5.0, 1.0, 4.0, 2.0, 3.0]);
        let at = [0.0, 0.5, 0.99, 1.0].map(|q| samples.quantile(q));
        assert!(at.into_iter().eq([1.0, 3.0, 5.0, 5.0]));
        assert!([samples.min(), samples.max()].into_iter().eq([1.0, 5.0]));
    }
}
