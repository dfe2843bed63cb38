//! `harp-shop [--folder DIR] [--port N] [--empty] [--fill N] [--long N] [--until-stdin-ends] [--generous]
//! [--rewritten]`, or
//! `harp-shop --drone ADDRESS`.
#![expect(clippy::print_stdout, reason = "an example tells what it does")]

use dalsegno::{Error, HostSettings, Result};
use tokio::io::AsyncReadExt;

#[derive(Default)]
struct Arguments {
    folder: Option<String>,
    port: u16,
    drone: Option<String>,
    fill: usize,
    long: u32,
    is_empty: bool,
    ends_with_stdin: bool,
    is_generous: bool,
    is_rewritten: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = read(std::env::args().skip(1))?;
    if let Some(address) = &arguments.drone {
        return harp_shop::drone().connect(address).run().await;
    }
    let folder = arguments.folder.as_deref().unwrap_or(".dalsegno/harp-shop");
    std::fs::create_dir_all(folder)?;
    let mut settings = harp_shop::settings(folder);
    if arguments.is_generous {
        settings.limits.turn_actions_max = HostSettings::in_folder(folder).limits.turn_actions_max;
    }
    if arguments.is_rewritten {
        harp_shop::rewrite_wrap();
    }
    settings.listen = Some(([127, 0, 0, 1], arguments.port).into());
    let host = harp_shop::app().start(settings).await?;
    let client = host.client().clone();
    if !arguments.is_empty {
        harp_shop::open_shop(&client).await?;
    }
    if arguments.long > 0 {
        let long = client.start(harp_shop::bench, arguments.long);
        long.id("long-1").await?.wait().await?;
    }
    harp_shop::fill(&client, arguments.fill).await?;
    if let Some(address) = host.address() {
        println!("http://{address}/dashboard/");
    }
    match arguments.ends_with_stdin {
        true => drop(tokio::io::stdin().read_to_end(&mut Vec::new()).await),
        false => dalsegno::until_ended().await,
    }
    host.shutdown().await;
    Ok(())
}

fn read(mut words: impl Iterator<Item = String>) -> Result<Arguments> {
    let mut arguments = Arguments::default();
    while let Some(word) = words.next() {
        let mut value = || {
            words
                .next()
                .ok_or_else(|| Error::msg(format!("{word} needs a value")))
        };
        match word.as_str() {
            "--folder" => arguments.folder = Some(value()?),
            "--port" => arguments.port = value()?.parse()?,
            "--drone" => arguments.drone = Some(value()?),
            "--fill" => arguments.fill = value()?.parse()?,
            "--long" => arguments.long = value()?.parse()?,
            "--rewritten" => arguments.is_rewritten = true,
            "--generous" => arguments.is_generous = true,
            "--empty" => arguments.is_empty = true,
            "--until-stdin-ends" => arguments.ends_with_stdin = true,
            _ => {
                return Err(Error::msg(format!(
                    "{word} is no flag of this program: see its first lines"
                )));
            }
        }
    }
    Ok(arguments)
}
