//! How costs grow with engines and with tasks, as a picture: they should not.

use std::{fs, path::Path};

use plotters::{coord::Shift, prelude::*};

use crate::{
    Failure,
    cluster::{Cluster, Plan, Workers},
    options::{GrowthOptions, Options},
    rows::{engines, queued, scheduler},
    suite,
};

const SIZE_PX: (u32, u32) = (1000, 760);
const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(31, 93, 160);

/// The numbers of engines of real clusters.
const ENGINES: [usize; 4] = [2, 10, 100, 1_000];

/// How many tasks each of them runs.
const TASKS: u64 = 200_000;

/// The numbers of tasks that wait in a real controller. A few take too little memory to be seen.
const QUEUED: [usize; 4] = [100_000, 300_000, 1_000_000, 3_000_000];

/// One picture: cost by number.
struct Panel {
    title: &'static str,
    x: &'static str,
    points: Vec<(f64, f64)>,
}

/// Measures the costs, prints them and draws them.
pub fn draw_growth(options: &Options, growth: &GrowthOptions) -> Result<(), Failure> {
    suite::build_node()?;
    let core = scheduler::measure(options.scale())?;
    let cost = |name: &str, numbers: &[u32]| {
        let at = |number: &u32| Some((f64::from(*number), *core.figures.get(&format!("scheduler.{name}_{number}_ns"))?));
        numbers.iter().filter_map(at).collect()
    };
    let panels = [
        Panel { title: "scheduler core: ns a task", x: "engines", points: cost("engines", &scheduler::ENGINES) },
        Panel { title: "scheduler core: ns a task", x: "queued tasks", points: cost("queued", &scheduler::QUEUED) },
        Panel { title: "controller: CPU µs a single task", x: "engines", points: by_engines()? },
        Panel { title: "controller: memory, bytes a queued single task", x: "queued tasks", points: by_queued()? },
    ];
    for Panel { title, x, points } in &panels {
        println!("{title}, by {x}");
        points.iter().for_each(|(number, cost)| println!("{number:>12}  {cost:.2}"));
    }
    let path = growth.svg.clone().unwrap_or_else(|| options.json_path("growth.svg"));
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    draw(&path, &panels).map_err(|error| format!("the picture {} cannot be drawn: {error}", path.display()))?;
    println!("drawn: {}", path.display());
    Ok(())
}

fn by_engines() -> Result<Vec<(f64, f64)>, Failure> {
    let cost = |engines: &usize| {
        let nodes = engines.div_ceil(250);
        let cluster = Cluster::start(Plan { nodes, workers: Workers::Threads, ..Plan::engines(*engines) })?;
        let (_, cpu_s) = engines::rate_and_cpu(&cluster, TASKS)?;
        Ok((*engines as f64, 1e6 * cpu_s / TASKS as f64))
    };
    ENGINES.iter().map(cost).collect()
}

fn by_queued() -> Result<Vec<(f64, f64)>, Failure> {
    QUEUED.iter().map(|queued| Ok((*queued as f64, queued::single_bytes(*queued)?))).collect()
}

fn draw(path: &Path, panels: &[Panel; 4]) -> Result<(), Failure> {
    let area = SVGBackend::new(path, SIZE_PX).into_drawing_area();
    area.fill(&WHITE)?;
    for (panel, area) in panels.iter().zip(area.split_evenly((2, 2))) {
        draw_panel(panel, &area)?;
    }
    area.present()?;
    Ok(())
}

/// One of them: numbers by orders of magnitude, costs from nothing to half as much again as the highest.
fn draw_panel(Panel { title, x, points }: &Panel, area: &DrawingArea<SVGBackend<'_>, Shift>) -> Result<(), Failure> {
    let highest = points.iter().map(|(_, cost)| *cost).fold(0.0, f64::max);
    let first = points.first().map_or(1.0, |(number, _)| *number);
    let last = points.last().map_or(10.0, |(number, _)| *number);
    let mut chart = ChartBuilder::on(area)
        .caption(*title, (FONT, 18))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d((first / 2.0..last * 2.0).log_scale(), 0.0..(1.5 * highest).max(1e-9))?;
    chart
        .configure_mesh()
        .x_desc(*x)
        .axis_desc_style((FONT, 16))
        .label_style((FONT, 14))
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .draw()?;
    chart.draw_series(LineSeries::new(points.iter().copied(), INK.stroke_width(2)))?;
    chart.draw_series(points.iter().map(|point| Circle::new(*point, 4, INK.filled())))?;
    Ok(())
}
