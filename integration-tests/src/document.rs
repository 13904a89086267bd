//! The code blocks of `docs/engines.md`, which the tests run.

use std::fs;

use crate::location::Location;
use crate::object_store::{ACCESS_KEY, SECRET_KEY};
use crate::paths;

/// A code block: a statement that reads a table, or one that comes before such.
#[derive(Debug, Clone)]
pub struct Block(String);

impl Block {
    /// The blocks below a heading, in their order.
    pub fn of(heading: &str) -> Vec<Block> {
        let page = fs::read_to_string(paths::package().join("../docs/engines.md")).unwrap();
        let (_, section) =
            page.split_once(&format!("\n## {heading}\n")).expect("the page has this heading");
        let section = section.split("\n## ").next().unwrap_or_default();
        let fenced = section.split("\n```").skip(1).step_by(2);
        fenced.map(|block| Block(block.split_once('\n').unwrap().1.to_owned())).collect()
    }

    /// Whether it reads this one of the page's tables, in the page's bucket or on its disk.
    pub fn reads(&self, table: &str, in_bucket: bool) -> bool {
        let roots: &[&str] = if in_bucket { &["://lake", ":9000/lake"] } else { &["/data/lake"] };
        roots.iter().any(|root| self.0.contains(&format!("{root}/{table}")))
    }

    /// The block as it reads another table than the page's.
    pub fn reading(&self, table: &str, instead: &str) -> Block {
        Block(self.0.replace(table, instead))
    }

    /// The code with a folder and a bucket's prefix for those of the page.
    pub fn code(&self, disk: &Location, bucket: &Location) -> String {
        let Location::S3 { uri, endpoint } = bucket else { panic!("{bucket:?} is no bucket") };
        let prefix = uri.trim_start_matches("s3://");
        self.0
            .replace("/data/lake", &disk.uri())
            .replace("localhost:9000/lake", &format!("{endpoint}/{prefix}"))
            .replace("://lake", &format!("://{prefix}"))
            .replace("localhost:9000", endpoint)
            .replace("my-key", ACCESS_KEY)
            .replace("my-secret", SECRET_KEY)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::paths;

    #[test]
    fn the_page_names_the_versions_that_are_tested() {
        let read = |file: &str| fs::read_to_string(paths::package().join(file)).unwrap();
        let page = read("../docs/engines.md");
        let pinned = read("python/requirements.txt");
        for package in ["duckdb", "chdb-core", "deltalake", "polars", "daft"] {
            let version =
                pinned.lines().find_map(|line| line.strip_prefix(package)?.strip_prefix("=="));
            let version = version.expect("the package is pinned");
            let named = if package == "chdb-core" { &version[..4] } else { version };
            assert!(page.contains(named), "{package} {version} is not on the page");
        }
        for (package, file) in
            [("delta-spark_4.2_2.13", "spark/pom.xml"), ("hadoop-aws", "spark/hadoop-aws.xml")]
        {
            let pinned = read(file);
            let (_, rest) =
                pinned.split_once(&format!(">{package}</artifactId><version>")).unwrap();
            let (version, _) = rest.split_once('<').unwrap();
            assert!(
                page.contains(&format!("{package}:{version}")),
                "{package} {version} is not on the page"
            );
        }
    }
}
