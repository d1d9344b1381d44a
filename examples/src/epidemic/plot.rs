//! The curve as a picture.

use std::path::Path;

use plotters::{coord::Shift, prelude::*};

use super::{Point, theory};

const SIZE_PX: (u32, u32) = (900, 600);
const FONT: &str = "sans-serif";
/// Half the width of the end of an error bar, in units of T.
const CAP: f64 = 0.006;
/// Into how many straight pieces the curve of theory is cut: some pixels each, because their ends are rounded to whole pixels
/// and shorter ones look like stairs.
const PIECES: u32 = 160;
const SIMULATED: RGBColor = RGBColor(31, 93, 160);
const THEORY: RGBColor = RGBColor(200, 80, 30);

/// A plot that could not be drawn or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the plot {file}: {reason}")]
pub struct PlotError {
    file: String,
    reason: String,
}

type Drawn<T> = Result<T, Box<dyn std::error::Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> =
    ChartContext<'b, SVGBackend<'a>, Cartesian2d<plotters::coord::types::RangedCoordf64, plotters::coord::types::RangedCoordf64>>;

/// Draws the curve, with error bars, into an SVG file; with a `mean_degree` also what theory says for random networks.
///
/// # Errors
/// When the file cannot be written.
pub fn write_plot(file: &Path, title: &str, curve: &[Point], mean_degree: Option<f64>) -> Result<(), PlotError> {
    let area = SVGBackend::new(file, SIZE_PX).into_drawing_area();
    draw(&area, title, curve, mean_degree)
        .map_err(|error| PlotError { file: file.display().to_string(), reason: error.to_string() })
}

fn draw(area: &Area<'_>, title: &str, curve: &[Point], mean_degree: Option<f64>) -> Drawn<()> {
    let t_max = curve.iter().map(|point| point.t).fold(0.0, f64::max);
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(area)
        .caption(title, (FONT, 22))
        .margin(16)
        .x_label_area_size(52)
        .y_label_area_size(68)
        .build_cartesian_2d(0.0..t_max.max(1e-9) * 1.02, 0.0..1.03)?;
    chart
        .configure_mesh()
        .x_desc("transmissibility T")
        .y_desc("mean outbreak size (fraction of all nodes)")
        .axis_desc_style((FONT, 20))
        .label_style((FONT, 17))
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .draw()?;
    if let Some(mean_degree) = mean_degree {
        draw_theory(&mut chart, t_max, mean_degree)?;
    }
    draw_points(&mut chart, curve)?;
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .margin(16)
        .label_font((FONT, 17))
        .background_style(WHITE)
        .border_style(BLACK.mix(0.3))
        .draw()?;
    area.present()?;
    Ok(())
}

fn draw_theory(chart: &mut Chart<'_, '_>, t_max: f64, mean_degree: f64) -> Drawn<()> {
    let line = (0..=PIECES).map(|piece| {
        let t = t_max * f64::from(piece) / f64::from(PIECES);
        (t, theory::outbreak_fraction(mean_degree, t))
    });
    chart
        .draw_series(LineSeries::new(line, THEORY.stroke_width(2)))?
        .label("theory: S = 1 − exp(−⟨k⟩ T S)")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 20, y)], THEORY.stroke_width(2)));
    Ok(())
}

fn draw_points(chart: &mut Chart<'_, '_>, curve: &[Point]) -> Drawn<()> {
    let measured = || curve.iter().filter_map(|point| Some((point.t, point.mean_size()?, point.standard_error())));
    let bars = measured().filter_map(|(t, mean, error)| Some((t, mean - error?, mean + error?)));
    chart.draw_series(bars.flat_map(|(t, low, high)| {
        let ends = [[(t, low), (t, high)], [(t - CAP, low), (t + CAP, low)], [(t - CAP, high), (t + CAP, high)]];
        ends.map(|line| PathElement::new(line, SIMULATED.stroke_width(1)))
    }))?;
    chart
        .draw_series(measured().map(|(t, mean, _)| Circle::new((t, mean), 3, SIMULATED.filled())))?
        .label("simulated: outbreaks that took off, ± std. error")
        .legend(|(x, y)| Circle::new((x + 10, y), 3, SIMULATED.filled()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::epidemic::Tally;

    fn svg(curve: &[Point], mean_degree: Option<f64>) -> Result<String, Box<dyn std::error::Error>> {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("plot.svg");
        write_plot(&file, "a title", curve, mean_degree)?;
        Ok(fs::read_to_string(file)?)
    }

    fn point(t: f64, outbreaks: u64) -> Point {
        let tally = Tally { started: 9, outbreaks, infected: 60 * outbreaks, infected_squared: 3700 * u128::from(outbreaks) };
        Point { t, nodes: 100, tally, theory: None }
    }

    #[test]
    fn the_picture_has_a_mark_for_every_point_that_is_defined() -> Result<(), Box<dyn std::error::Error>> {
        let curve = [point(0.1, 0), point(0.5, 1), point(1.0, 3)];
        for (mean_degree, lines) in [(None, 0), (Some(4.0), 1)] {
            let svg = svg(&curve, mean_degree)?;
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
            // Two points, and one in the legend.
            assert_eq!(svg.matches("<circle").count(), 3);
            for text in ["a title", "transmissibility T", "mean outbreak size", "simulated"] {
                assert!(svg.contains(text), "{text}");
            }
            assert_eq!(svg.matches("theory").count(), lines);
        }
        Ok(())
    }

    #[test]
    fn a_curve_without_points_is_an_empty_picture() -> Result<(), Box<dyn std::error::Error>> {
        assert!(svg(&[], None)?.contains("</svg>"));
        assert!(svg(&[point(0.0, 0)], Some(4.0))?.contains("</svg>"));
        Ok(())
    }

    #[test]
    fn a_place_that_does_not_exist_is_an_error_that_names_it() {
        let error = write_plot(Path::new("/nonexistent/plot.svg"), "", &[], None).expect_err("no such directory").to_string();
        assert!(error.starts_with("cannot write the plot /nonexistent/plot.svg: "), "{error}");
    }
}
