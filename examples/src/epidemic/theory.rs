//! What theory says about outbreaks on Erdős–Rényi networks.

/// How often the bracket is halved: enough for every bit of an `f64` below 1.
const HALVINGS: usize = 64;

/// The size of an outbreak that took off, as a fraction of all nodes, on an infinitely large Erdős–Rényi network: the
/// greatest solution of S = 1 − exp(−⟨k⟩ T S) (Newman 2002, Phys. Rev. E 66, 016128). 0 up to the threshold ⟨k⟩ T = 1.
pub fn outbreak_fraction(mean_degree: f64, transmissibility: f64) -> f64 {
    let contacts = mean_degree * transmissibility;
    if contacts.is_nan() || contacts <= 1.0 {
        return 0.0;
    }
    // The gain 1 − exp(−cS) − S is positive between 0 and the solution and negative beyond. With c > 1 it is positive at
    // (c − 1)/c², by its series up to S³, so the solution lies between that and 1: bisection cannot fail to find it.
    let gain = |size: f64| -(-contacts * size).exp_m1() - size;
    let (mut low, mut high) = ((contacts - 1.0) / (contacts * contacts), 1.0);
    for _ in 0..HALVINGS {
        let middle = 0.5 * (low + high);
        if gain(middle) > 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_textbooks() {
        for (contacts, size) in
            [(0.0, 0.0), (0.5, 0.0), (1.0, 0.0), (1.5, 0.582_811_6), (2.0, 0.796_812_1), (3.0, 0.940_479_8), (4.0, 0.980_172_6)]
        {
            let found = outbreak_fraction(4.0, contacts / 4.0);
            assert!((found - size).abs() < 1e-6, "⟨k⟩T = {contacts}: {found}");
        }
    }

    #[test]
    fn the_solution_solves_the_equation_from_the_threshold_on() {
        for step in 1..=400 {
            let contacts = 1.0 + f64::from(step) * f64::from(step) / 1000.0;
            let size = outbreak_fraction(contacts, 1.0);
            assert!(size > 0.0 && size <= 1.0, "⟨k⟩T = {contacts}: {size}");
            assert!((size + (-contacts * size).exp_m1()).abs() < 1e-12, "⟨k⟩T = {contacts}: {size}");
        }
    }

    #[test]
    fn next_to_the_threshold_it_is_small_and_not_lost() {
        // S ≈ 2 (c − 1) for c just above 1.
        let size = outbreak_fraction(1.0 + 1e-6, 1.0);
        assert!((size / 2e-6 - 1.0).abs() < 1e-3, "{size}");
    }
}
