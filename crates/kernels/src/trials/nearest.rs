//! Which level is nearest to a value.

use crate::formats::Levels;
use crate::simd::{LANES, Simd, per_tier};

/// How the nearest level is found.
#[derive(Clone, Copy, Debug)]
pub struct Nearest(pub(super) Kind);

#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Range {
        lowest: f32,
        highest: f32,
    },
    /// Levels and the middles between them; those past the last level are at infinity.
    Table {
        levels: [i8; 16],
        middles: [f32; 15],
    },
}

impl From<Levels> for Nearest {
    fn from(levels: Levels) -> Nearest {
        Nearest(match levels {
            Levels::Range { lowest, highest } => {
                Kind::Range { lowest: lowest.into(), highest: highest.into() }
            }
            Levels::Table(table) => {
                let (mut levels, mut middles) = ([0; 16], [f32::INFINITY; 15]);
                levels[..table.len()].copy_from_slice(table);
                for (middle, pair) in middles.iter_mut().zip(table.windows(2)) {
                    *middle = 0.5 * (f32::from(pair[0]) + f32::from(pair[1]));
                }
                Kind::Table { levels, middles }
            }
        })
    }
}

/// Finds the nearest level, as a number: one type for each [`Kind`], so that the choice is not made for each value.
pub(super) trait Rounder {
    /// The levels nearest to the lanes of `x`.
    ///
    /// # Safety
    /// As for [`Simd`].
    unsafe fn nearest<S: Simd>(&self, x: S::F) -> S::F;
}

pub(super) struct Range {
    pub(super) lowest: f32,
    pub(super) highest: f32,
}

impl Rounder for Range {
    #[inline(always)]
    unsafe fn nearest<S: Simd>(&self, x: S::F) -> S::F {
        // SAFETY: lane arithmetic; the tier is the caller's promise.
        unsafe { S::round(S::min(S::max(x, S::splat_f32(self.lowest)), S::splat_f32(self.highest))) }
    }
}

pub(super) struct Table<'a> {
    pub(super) levels: &'a [i8; 16],
    pub(super) middles: &'a [f32; 15],
}

impl Rounder for Table<'_> {
    #[inline(always)]
    unsafe fn nearest<S: Simd>(&self, x: S::F) -> S::F {
        // SAFETY: lane arithmetic, and a table of 16 bytes; the tier is the caller's promise.
        unsafe {
            // How many middles are below: the sign of the difference is 1 for each.
            let mut index = S::splat(0);
            for &middle in self.middles {
                index = S::add_int(index, S::shr(S::f32_bits(S::sub(S::splat_f32(middle), x)), 31));
            }
            // The level is the lowest of the lane's four bytes.
            S::to_f32(S::sar(S::shl(S::table(self.levels.as_ptr().cast(), index), 24), 24))
        }
    }
}

/// The nearest levels of `values` by one scale and minimum.
///
/// # Panics
/// If there is not one level for each value, or their number is no multiple of 16.
pub fn levels(levels: &Nearest, values: &[f32], scale: f32, min: f32, out: &mut [i8]) {
    nearest_levels(levels, values, inverse(scale), min, out);
}

/// The levels nearest to `(value + min) * per_step`.
///
/// # Panics
/// As for [`levels`].
pub(crate) fn nearest_levels(levels: &Nearest, values: &[f32], per_step: f32, min: f32, out: &mut [i8]) {
    assert_eq!(values.len(), out.len(), "values and levels");
    assert!(values.len().is_multiple_of(LANES), "{} values, no multiple of {LANES}", values.len());
    // SAFETY: both are whole vectors of the same length.
    unsafe { round(values.as_ptr(), values.len(), levels, per_step, min, out.as_mut_ptr()) }
}

/// `1 / scale`, and 0 for 0, so that all values get the level nearest to 0. Of a scale below the normal range it is the largest
/// number there is, for with an infinite one 0 would have no level.
#[inline(always)]
pub(crate) fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { (1.0 / scale).clamp(f32::MIN, f32::MAX) }
}

per_tier! {
    /// [`round_all`] on this process' tier.
    ///
    /// # Safety
    /// As for [`round_all`], but for the tier.
    fn round(values: *const f32, count: usize, levels: &Nearest, inverse: f32, min: f32, out: *mut i8) = round_all
}

/// # Safety
/// `count`, a multiple of 16, values are readable and levels writable; the caller is compiled for the tier of `S`.
#[inline(always)]
unsafe fn round_all<S: Simd>(
    values: *const f32,
    count: usize,
    levels: &Nearest,
    inverse: f32,
    min: f32,
    out: *mut i8,
) {
    // SAFETY: places are the caller's promise.
    unsafe {
        match levels.0 {
            Kind::Range { lowest, highest } => {
                round_by::<S>(values, count, &Range { lowest, highest }, inverse, min, out);
            }
            Kind::Table { ref levels, ref middles } => {
                round_by::<S>(values, count, &Table { levels, middles }, inverse, min, out);
            }
        }
    }
}

/// # Safety
/// As for [`round_all`].
#[inline(always)]
unsafe fn round_by<S: Simd>(
    values: *const f32,
    count: usize,
    rounder: &impl Rounder,
    inverse: f32,
    min: f32,
    out: *mut i8,
) {
    // SAFETY: places are the caller's promise.
    unsafe {
        let (min, inverse) = (S::splat_f32(min), S::splat_f32(inverse));
        for i in (0..count).step_by(LANES) {
            let x = S::mul(S::add(S::load_f32(values.add(i)), min), inverse);
            S::store_i8(out.add(i), S::round_to_int(rounder.nearest::<S>(x)));
        }
    }
}
