//! SQLSTATEs: the codes that tell PostgreSQL's errors apart, with a name for each that PostgreSQL
//! 17 knows. The constants are made from the table in its source, `src/backend/utils/errcodes.txt`,
//! and named as its `ERRCODE_` macros are.

use std::fmt;

/// A SQLSTATE: five characters that tell an error apart (PostgreSQL documentation, appendix
/// "PostgreSQL Error Codes").
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState([u8; 5]);

impl SqlState {
    /// The SQLSTATE with these five characters; `None` if they are not five digits or ASCII
    /// capitals.
    pub fn from_code(code: &str) -> Option<Self> {
        let code: [u8; 5] = code.as_bytes().try_into().ok()?;
        code.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()).then_some(Self(code))
    }

    /// The five characters.
    pub fn code(&self) -> &str {
        // Only digits and capitals ever get in.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The first two characters: the class of errors that this one belongs to.
    pub fn class(&self) -> &str {
        self.code().get(..2).unwrap_or_default()
    }
}

impl Default for SqlState {
    fn default() -> Self {
        Self::SUCCESSFUL_COMPLETION
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SqlState({})", self.code())
    }
}

impl PartialEq<str> for SqlState {
    fn eq(&self, other: &str) -> bool {
        self.code() == other
    }
}

impl PartialEq<&str> for SqlState {
    fn eq(&self, other: &&str) -> bool {
        self.code() == *other
    }
}

#[rustfmt::skip]
#[allow(missing_docs)]
impl SqlState {
    // Class 00: Successful Completion
    /// `00000`
    pub const SUCCESSFUL_COMPLETION: Self = Self(*b"00000");

    // Class 01: Warning
    /// `01000`
    pub const WARNING: Self = Self(*b"01000");
    /// `0100C`
    pub const WARNING_DYNAMIC_RESULT_SETS_RETURNED: Self = Self(*b"0100C");
    /// `01008`
    pub const WARNING_IMPLICIT_ZERO_BIT_PADDING: Self = Self(*b"01008");
    /// `01003`
    pub const WARNING_NULL_VALUE_ELIMINATED_IN_SET_FUNCTION: Self = Self(*b"01003");
    /// `01007`
    pub const WARNING_PRIVILEGE_NOT_GRANTED: Self = Self(*b"01007");
    /// `01006`
    pub const WARNING_PRIVILEGE_NOT_REVOKED: Self = Self(*b"01006");
    /// `01004`
    pub const WARNING_STRING_DATA_RIGHT_TRUNCATION: Self = Self(*b"01004");
    /// `01P01`
    pub const WARNING_DEPRECATED_FEATURE: Self = Self(*b"01P01");

    // Class 02: No Data (this is also a warning class per the SQL standard)
    /// `02000`
    pub const NO_DATA: Self = Self(*b"02000");
    /// `02001`
    pub const NO_ADDITIONAL_DYNAMIC_RESULT_SETS_RETURNED: Self = Self(*b"02001");

    // Class 03: SQL Statement Not Yet Complete
    /// `03000`
    pub const SQL_STATEMENT_NOT_YET_COMPLETE: Self = Self(*b"03000");

    // Class 08: Connection Exception
    /// `08000`
    pub const CONNECTION_EXCEPTION: Self = Self(*b"08000");
    /// `08003`
    pub const CONNECTION_DOES_NOT_EXIST: Self = Self(*b"08003");
    /// `08006`
    pub const CONNECTION_FAILURE: Self = Self(*b"08006");
    /// `08001`
    pub const SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION: Self = Self(*b"08001");
    /// `08004`
    pub const SQLSERVER_REJECTED_ESTABLISHMENT_OF_SQLCONNECTION: Self = Self(*b"08004");
    /// `08007`
    pub const TRANSACTION_RESOLUTION_UNKNOWN: Self = Self(*b"08007");
    /// `08P01`
    pub const PROTOCOL_VIOLATION: Self = Self(*b"08P01");

    // Class 09: Triggered Action Exception
    /// `09000`
    pub const TRIGGERED_ACTION_EXCEPTION: Self = Self(*b"09000");

    // Class 0A: Feature Not Supported
    /// `0A000`
    pub const FEATURE_NOT_SUPPORTED: Self = Self(*b"0A000");

    // Class 0B: Invalid Transaction Initiation
    /// `0B000`
    pub const INVALID_TRANSACTION_INITIATION: Self = Self(*b"0B000");

    // Class 0F: Locator Exception
    /// `0F000`
    pub const LOCATOR_EXCEPTION: Self = Self(*b"0F000");
    /// `0F001`
    pub const L_E_INVALID_SPECIFICATION: Self = Self(*b"0F001");

    // Class 0L: Invalid Grantor
    /// `0L000`
    pub const INVALID_GRANTOR: Self = Self(*b"0L000");
    /// `0LP01`
    pub const INVALID_GRANT_OPERATION: Self = Self(*b"0LP01");

    // Class 0P: Invalid Role Specification
    /// `0P000`
    pub const INVALID_ROLE_SPECIFICATION: Self = Self(*b"0P000");

    // Class 0Z: Diagnostics Exception
    /// `0Z000`
    pub const DIAGNOSTICS_EXCEPTION: Self = Self(*b"0Z000");
    /// `0Z002`
    pub const STACKED_DIAGNOSTICS_ACCESSED_WITHOUT_ACTIVE_HANDLER: Self = Self(*b"0Z002");

    // Class 20: Case Not Found
    /// `20000`
    pub const CASE_NOT_FOUND: Self = Self(*b"20000");

    // Class 21: Cardinality Violation
    /// `21000`
    pub const CARDINALITY_VIOLATION: Self = Self(*b"21000");

    // Class 22: Data Exception
    /// `22000`
    pub const DATA_EXCEPTION: Self = Self(*b"22000");
    /// `2202E`
    pub const ARRAY_ELEMENT_ERROR: Self = Self(*b"2202E");
    /// `2202E`
    pub const ARRAY_SUBSCRIPT_ERROR: Self = Self(*b"2202E");
    /// `22021`
    pub const CHARACTER_NOT_IN_REPERTOIRE: Self = Self(*b"22021");
    /// `22008`
    pub const DATETIME_FIELD_OVERFLOW: Self = Self(*b"22008");
    /// `22008`
    pub const DATETIME_VALUE_OUT_OF_RANGE: Self = Self(*b"22008");
    /// `22012`
    pub const DIVISION_BY_ZERO: Self = Self(*b"22012");
    /// `22005`
    pub const ERROR_IN_ASSIGNMENT: Self = Self(*b"22005");
    /// `2200B`
    pub const ESCAPE_CHARACTER_CONFLICT: Self = Self(*b"2200B");
    /// `22022`
    pub const INDICATOR_OVERFLOW: Self = Self(*b"22022");
    /// `22015`
    pub const INTERVAL_FIELD_OVERFLOW: Self = Self(*b"22015");
    /// `2201E`
    pub const INVALID_ARGUMENT_FOR_LOG: Self = Self(*b"2201E");
    /// `22014`
    pub const INVALID_ARGUMENT_FOR_NTILE: Self = Self(*b"22014");
    /// `22016`
    pub const INVALID_ARGUMENT_FOR_NTH_VALUE: Self = Self(*b"22016");
    /// `2201F`
    pub const INVALID_ARGUMENT_FOR_POWER_FUNCTION: Self = Self(*b"2201F");
    /// `2201G`
    pub const INVALID_ARGUMENT_FOR_WIDTH_BUCKET_FUNCTION: Self = Self(*b"2201G");
    /// `22018`
    pub const INVALID_CHARACTER_VALUE_FOR_CAST: Self = Self(*b"22018");
    /// `22007`
    pub const INVALID_DATETIME_FORMAT: Self = Self(*b"22007");
    /// `22019`
    pub const INVALID_ESCAPE_CHARACTER: Self = Self(*b"22019");
    /// `2200D`
    pub const INVALID_ESCAPE_OCTET: Self = Self(*b"2200D");
    /// `22025`
    pub const INVALID_ESCAPE_SEQUENCE: Self = Self(*b"22025");
    /// `22P06`
    pub const NONSTANDARD_USE_OF_ESCAPE_CHARACTER: Self = Self(*b"22P06");
    /// `22010`
    pub const INVALID_INDICATOR_PARAMETER_VALUE: Self = Self(*b"22010");
    /// `22023`
    pub const INVALID_PARAMETER_VALUE: Self = Self(*b"22023");
    /// `22013`
    pub const INVALID_PRECEDING_OR_FOLLOWING_SIZE: Self = Self(*b"22013");
    /// `2201B`
    pub const INVALID_REGULAR_EXPRESSION: Self = Self(*b"2201B");
    /// `2201W`
    pub const INVALID_ROW_COUNT_IN_LIMIT_CLAUSE: Self = Self(*b"2201W");
    /// `2201X`
    pub const INVALID_ROW_COUNT_IN_RESULT_OFFSET_CLAUSE: Self = Self(*b"2201X");
    /// `2202H`
    pub const INVALID_TABLESAMPLE_ARGUMENT: Self = Self(*b"2202H");
    /// `2202G`
    pub const INVALID_TABLESAMPLE_REPEAT: Self = Self(*b"2202G");
    /// `22009`
    pub const INVALID_TIME_ZONE_DISPLACEMENT_VALUE: Self = Self(*b"22009");
    /// `2200C`
    pub const INVALID_USE_OF_ESCAPE_CHARACTER: Self = Self(*b"2200C");
    /// `2200G`
    pub const MOST_SPECIFIC_TYPE_MISMATCH: Self = Self(*b"2200G");
    /// `22004`
    pub const NULL_VALUE_NOT_ALLOWED: Self = Self(*b"22004");
    /// `22002`
    pub const NULL_VALUE_NO_INDICATOR_PARAMETER: Self = Self(*b"22002");
    /// `22003`
    pub const NUMERIC_VALUE_OUT_OF_RANGE: Self = Self(*b"22003");
    /// `2200H`
    pub const SEQUENCE_GENERATOR_LIMIT_EXCEEDED: Self = Self(*b"2200H");
    /// `22026`
    pub const STRING_DATA_LENGTH_MISMATCH: Self = Self(*b"22026");
    /// `22001`
    pub const STRING_DATA_RIGHT_TRUNCATION: Self = Self(*b"22001");
    /// `22011`
    pub const SUBSTRING_ERROR: Self = Self(*b"22011");
    /// `22027`
    pub const TRIM_ERROR: Self = Self(*b"22027");
    /// `22024`
    pub const UNTERMINATED_C_STRING: Self = Self(*b"22024");
    /// `2200F`
    pub const ZERO_LENGTH_CHARACTER_STRING: Self = Self(*b"2200F");
    /// `22P01`
    pub const FLOATING_POINT_EXCEPTION: Self = Self(*b"22P01");
    /// `22P02`
    pub const INVALID_TEXT_REPRESENTATION: Self = Self(*b"22P02");
    /// `22P03`
    pub const INVALID_BINARY_REPRESENTATION: Self = Self(*b"22P03");
    /// `22P04`
    pub const BAD_COPY_FILE_FORMAT: Self = Self(*b"22P04");
    /// `22P05`
    pub const UNTRANSLATABLE_CHARACTER: Self = Self(*b"22P05");
    /// `2200L`
    pub const NOT_AN_XML_DOCUMENT: Self = Self(*b"2200L");
    /// `2200M`
    pub const INVALID_XML_DOCUMENT: Self = Self(*b"2200M");
    /// `2200N`
    pub const INVALID_XML_CONTENT: Self = Self(*b"2200N");
    /// `2200S`
    pub const INVALID_XML_COMMENT: Self = Self(*b"2200S");
    /// `2200T`
    pub const INVALID_XML_PROCESSING_INSTRUCTION: Self = Self(*b"2200T");
    /// `22030`
    pub const DUPLICATE_JSON_OBJECT_KEY_VALUE: Self = Self(*b"22030");
    /// `22031`
    pub const INVALID_ARGUMENT_FOR_SQL_JSON_DATETIME_FUNCTION: Self = Self(*b"22031");
    /// `22032`
    pub const INVALID_JSON_TEXT: Self = Self(*b"22032");
    /// `22033`
    pub const INVALID_SQL_JSON_SUBSCRIPT: Self = Self(*b"22033");
    /// `22034`
    pub const MORE_THAN_ONE_SQL_JSON_ITEM: Self = Self(*b"22034");
    /// `22035`
    pub const NO_SQL_JSON_ITEM: Self = Self(*b"22035");
    /// `22036`
    pub const NON_NUMERIC_SQL_JSON_ITEM: Self = Self(*b"22036");
    /// `22037`
    pub const NON_UNIQUE_KEYS_IN_A_JSON_OBJECT: Self = Self(*b"22037");
    /// `22038`
    pub const SINGLETON_SQL_JSON_ITEM_REQUIRED: Self = Self(*b"22038");
    /// `22039`
    pub const SQL_JSON_ARRAY_NOT_FOUND: Self = Self(*b"22039");
    /// `2203A`
    pub const SQL_JSON_MEMBER_NOT_FOUND: Self = Self(*b"2203A");
    /// `2203B`
    pub const SQL_JSON_NUMBER_NOT_FOUND: Self = Self(*b"2203B");
    /// `2203C`
    pub const SQL_JSON_OBJECT_NOT_FOUND: Self = Self(*b"2203C");
    /// `2203D`
    pub const TOO_MANY_JSON_ARRAY_ELEMENTS: Self = Self(*b"2203D");
    /// `2203E`
    pub const TOO_MANY_JSON_OBJECT_MEMBERS: Self = Self(*b"2203E");
    /// `2203F`
    pub const SQL_JSON_SCALAR_REQUIRED: Self = Self(*b"2203F");
    /// `2203G`
    pub const SQL_JSON_ITEM_CANNOT_BE_CAST_TO_TARGET_TYPE: Self = Self(*b"2203G");

    // Class 23: Integrity Constraint Violation
    /// `23000`
    pub const INTEGRITY_CONSTRAINT_VIOLATION: Self = Self(*b"23000");
    /// `23001`
    pub const RESTRICT_VIOLATION: Self = Self(*b"23001");
    /// `23502`
    pub const NOT_NULL_VIOLATION: Self = Self(*b"23502");
    /// `23503`
    pub const FOREIGN_KEY_VIOLATION: Self = Self(*b"23503");
    /// `23505`
    pub const UNIQUE_VIOLATION: Self = Self(*b"23505");
    /// `23514`
    pub const CHECK_VIOLATION: Self = Self(*b"23514");
    /// `23P01`
    pub const EXCLUSION_VIOLATION: Self = Self(*b"23P01");

    // Class 24: Invalid Cursor State
    /// `24000`
    pub const INVALID_CURSOR_STATE: Self = Self(*b"24000");

    // Class 25: Invalid Transaction State
    /// `25000`
    pub const INVALID_TRANSACTION_STATE: Self = Self(*b"25000");
    /// `25001`
    pub const ACTIVE_SQL_TRANSACTION: Self = Self(*b"25001");
    /// `25002`
    pub const BRANCH_TRANSACTION_ALREADY_ACTIVE: Self = Self(*b"25002");
    /// `25008`
    pub const HELD_CURSOR_REQUIRES_SAME_ISOLATION_LEVEL: Self = Self(*b"25008");
    /// `25003`
    pub const INAPPROPRIATE_ACCESS_MODE_FOR_BRANCH_TRANSACTION: Self = Self(*b"25003");
    /// `25004`
    pub const INAPPROPRIATE_ISOLATION_LEVEL_FOR_BRANCH_TRANSACTION: Self = Self(*b"25004");
    /// `25005`
    pub const NO_ACTIVE_SQL_TRANSACTION_FOR_BRANCH_TRANSACTION: Self = Self(*b"25005");
    /// `25006`
    pub const READ_ONLY_SQL_TRANSACTION: Self = Self(*b"25006");
    /// `25007`
    pub const SCHEMA_AND_DATA_STATEMENT_MIXING_NOT_SUPPORTED: Self = Self(*b"25007");
    /// `25P01`
    pub const NO_ACTIVE_SQL_TRANSACTION: Self = Self(*b"25P01");
    /// `25P02`
    pub const IN_FAILED_SQL_TRANSACTION: Self = Self(*b"25P02");
    /// `25P03`
    pub const IDLE_IN_TRANSACTION_SESSION_TIMEOUT: Self = Self(*b"25P03");
    /// `25P04`
    pub const TRANSACTION_TIMEOUT: Self = Self(*b"25P04");

    // Class 26: Invalid SQL Statement Name
    /// `26000`
    pub const INVALID_SQL_STATEMENT_NAME: Self = Self(*b"26000");

    // Class 27: Triggered Data Change Violation
    /// `27000`
    pub const TRIGGERED_DATA_CHANGE_VIOLATION: Self = Self(*b"27000");

    // Class 28: Invalid Authorization Specification
    /// `28000`
    pub const INVALID_AUTHORIZATION_SPECIFICATION: Self = Self(*b"28000");
    /// `28P01`
    pub const INVALID_PASSWORD: Self = Self(*b"28P01");

    // Class 2B: Dependent Privilege Descriptors Still Exist
    /// `2B000`
    pub const DEPENDENT_PRIVILEGE_DESCRIPTORS_STILL_EXIST: Self = Self(*b"2B000");
    /// `2BP01`
    pub const DEPENDENT_OBJECTS_STILL_EXIST: Self = Self(*b"2BP01");

    // Class 2D: Invalid Transaction Termination
    /// `2D000`
    pub const INVALID_TRANSACTION_TERMINATION: Self = Self(*b"2D000");

    // Class 2F: SQL Routine Exception
    /// `2F000`
    pub const SQL_ROUTINE_EXCEPTION: Self = Self(*b"2F000");
    /// `2F005`
    pub const S_R_E_FUNCTION_EXECUTED_NO_RETURN_STATEMENT: Self = Self(*b"2F005");
    /// `2F002`
    pub const S_R_E_MODIFYING_SQL_DATA_NOT_PERMITTED: Self = Self(*b"2F002");
    /// `2F003`
    pub const S_R_E_PROHIBITED_SQL_STATEMENT_ATTEMPTED: Self = Self(*b"2F003");
    /// `2F004`
    pub const S_R_E_READING_SQL_DATA_NOT_PERMITTED: Self = Self(*b"2F004");

    // Class 34: Invalid Cursor Name
    /// `34000`
    pub const INVALID_CURSOR_NAME: Self = Self(*b"34000");

    // Class 38: External Routine Exception
    /// `38000`
    pub const EXTERNAL_ROUTINE_EXCEPTION: Self = Self(*b"38000");
    /// `38001`
    pub const E_R_E_CONTAINING_SQL_NOT_PERMITTED: Self = Self(*b"38001");
    /// `38002`
    pub const E_R_E_MODIFYING_SQL_DATA_NOT_PERMITTED: Self = Self(*b"38002");
    /// `38003`
    pub const E_R_E_PROHIBITED_SQL_STATEMENT_ATTEMPTED: Self = Self(*b"38003");
    /// `38004`
    pub const E_R_E_READING_SQL_DATA_NOT_PERMITTED: Self = Self(*b"38004");

    // Class 39: External Routine Invocation Exception
    /// `39000`
    pub const EXTERNAL_ROUTINE_INVOCATION_EXCEPTION: Self = Self(*b"39000");
    /// `39001`
    pub const E_R_I_E_INVALID_SQLSTATE_RETURNED: Self = Self(*b"39001");
    /// `39004`
    pub const E_R_I_E_NULL_VALUE_NOT_ALLOWED: Self = Self(*b"39004");
    /// `39P01`
    pub const E_R_I_E_TRIGGER_PROTOCOL_VIOLATED: Self = Self(*b"39P01");
    /// `39P02`
    pub const E_R_I_E_SRF_PROTOCOL_VIOLATED: Self = Self(*b"39P02");
    /// `39P03`
    pub const E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED: Self = Self(*b"39P03");

    // Class 3B: Savepoint Exception
    /// `3B000`
    pub const SAVEPOINT_EXCEPTION: Self = Self(*b"3B000");
    /// `3B001`
    pub const S_E_INVALID_SPECIFICATION: Self = Self(*b"3B001");

    // Class 3D: Invalid Catalog Name
    /// `3D000`
    pub const INVALID_CATALOG_NAME: Self = Self(*b"3D000");

    // Class 3F: Invalid Schema Name
    /// `3F000`
    pub const INVALID_SCHEMA_NAME: Self = Self(*b"3F000");

    // Class 40: Transaction Rollback
    /// `40000`
    pub const TRANSACTION_ROLLBACK: Self = Self(*b"40000");
    /// `40002`
    pub const T_R_INTEGRITY_CONSTRAINT_VIOLATION: Self = Self(*b"40002");
    /// `40001`
    pub const T_R_SERIALIZATION_FAILURE: Self = Self(*b"40001");
    /// `40003`
    pub const T_R_STATEMENT_COMPLETION_UNKNOWN: Self = Self(*b"40003");
    /// `40P01`
    pub const T_R_DEADLOCK_DETECTED: Self = Self(*b"40P01");

    // Class 42: Syntax Error or Access Rule Violation
    /// `42000`
    pub const SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION: Self = Self(*b"42000");
    /// `42601`
    pub const SYNTAX_ERROR: Self = Self(*b"42601");
    /// `42501`
    pub const INSUFFICIENT_PRIVILEGE: Self = Self(*b"42501");
    /// `42846`
    pub const CANNOT_COERCE: Self = Self(*b"42846");
    /// `42803`
    pub const GROUPING_ERROR: Self = Self(*b"42803");
    /// `42P20`
    pub const WINDOWING_ERROR: Self = Self(*b"42P20");
    /// `42P19`
    pub const INVALID_RECURSION: Self = Self(*b"42P19");
    /// `42830`
    pub const INVALID_FOREIGN_KEY: Self = Self(*b"42830");
    /// `42602`
    pub const INVALID_NAME: Self = Self(*b"42602");
    /// `42622`
    pub const NAME_TOO_LONG: Self = Self(*b"42622");
    /// `42939`
    pub const RESERVED_NAME: Self = Self(*b"42939");
    /// `42804`
    pub const DATATYPE_MISMATCH: Self = Self(*b"42804");
    /// `42P18`
    pub const INDETERMINATE_DATATYPE: Self = Self(*b"42P18");
    /// `42P21`
    pub const COLLATION_MISMATCH: Self = Self(*b"42P21");
    /// `42P22`
    pub const INDETERMINATE_COLLATION: Self = Self(*b"42P22");
    /// `42809`
    pub const WRONG_OBJECT_TYPE: Self = Self(*b"42809");
    /// `428C9`
    pub const GENERATED_ALWAYS: Self = Self(*b"428C9");
    /// `42703`
    pub const UNDEFINED_COLUMN: Self = Self(*b"42703");
    /// `34000`
    pub const UNDEFINED_CURSOR: Self = Self(*b"34000");
    /// `3D000`
    pub const UNDEFINED_DATABASE: Self = Self(*b"3D000");
    /// `42883`
    pub const UNDEFINED_FUNCTION: Self = Self(*b"42883");
    /// `26000`
    pub const UNDEFINED_PSTATEMENT: Self = Self(*b"26000");
    /// `3F000`
    pub const UNDEFINED_SCHEMA: Self = Self(*b"3F000");
    /// `42P01`
    pub const UNDEFINED_TABLE: Self = Self(*b"42P01");
    /// `42P02`
    pub const UNDEFINED_PARAMETER: Self = Self(*b"42P02");
    /// `42704`
    pub const UNDEFINED_OBJECT: Self = Self(*b"42704");
    /// `42701`
    pub const DUPLICATE_COLUMN: Self = Self(*b"42701");
    /// `42P03`
    pub const DUPLICATE_CURSOR: Self = Self(*b"42P03");
    /// `42P04`
    pub const DUPLICATE_DATABASE: Self = Self(*b"42P04");
    /// `42723`
    pub const DUPLICATE_FUNCTION: Self = Self(*b"42723");
    /// `42P05`
    pub const DUPLICATE_PSTATEMENT: Self = Self(*b"42P05");
    /// `42P06`
    pub const DUPLICATE_SCHEMA: Self = Self(*b"42P06");
    /// `42P07`
    pub const DUPLICATE_TABLE: Self = Self(*b"42P07");
    /// `42712`
    pub const DUPLICATE_ALIAS: Self = Self(*b"42712");
    /// `42710`
    pub const DUPLICATE_OBJECT: Self = Self(*b"42710");
    /// `42702`
    pub const AMBIGUOUS_COLUMN: Self = Self(*b"42702");
    /// `42725`
    pub const AMBIGUOUS_FUNCTION: Self = Self(*b"42725");
    /// `42P08`
    pub const AMBIGUOUS_PARAMETER: Self = Self(*b"42P08");
    /// `42P09`
    pub const AMBIGUOUS_ALIAS: Self = Self(*b"42P09");
    /// `42P10`
    pub const INVALID_COLUMN_REFERENCE: Self = Self(*b"42P10");
    /// `42611`
    pub const INVALID_COLUMN_DEFINITION: Self = Self(*b"42611");
    /// `42P11`
    pub const INVALID_CURSOR_DEFINITION: Self = Self(*b"42P11");
    /// `42P12`
    pub const INVALID_DATABASE_DEFINITION: Self = Self(*b"42P12");
    /// `42P13`
    pub const INVALID_FUNCTION_DEFINITION: Self = Self(*b"42P13");
    /// `42P14`
    pub const INVALID_PSTATEMENT_DEFINITION: Self = Self(*b"42P14");
    /// `42P15`
    pub const INVALID_SCHEMA_DEFINITION: Self = Self(*b"42P15");
    /// `42P16`
    pub const INVALID_TABLE_DEFINITION: Self = Self(*b"42P16");
    /// `42P17`
    pub const INVALID_OBJECT_DEFINITION: Self = Self(*b"42P17");

    // Class 44: WITH CHECK OPTION Violation
    /// `44000`
    pub const WITH_CHECK_OPTION_VIOLATION: Self = Self(*b"44000");

    // Class 53: Insufficient Resources
    /// `53000`
    pub const INSUFFICIENT_RESOURCES: Self = Self(*b"53000");
    /// `53100`
    pub const DISK_FULL: Self = Self(*b"53100");
    /// `53200`
    pub const OUT_OF_MEMORY: Self = Self(*b"53200");
    /// `53300`
    pub const TOO_MANY_CONNECTIONS: Self = Self(*b"53300");
    /// `53400`
    pub const CONFIGURATION_LIMIT_EXCEEDED: Self = Self(*b"53400");

    // Class 54: Program Limit Exceeded
    /// `54000`
    pub const PROGRAM_LIMIT_EXCEEDED: Self = Self(*b"54000");
    /// `54001`
    pub const STATEMENT_TOO_COMPLEX: Self = Self(*b"54001");
    /// `54011`
    pub const TOO_MANY_COLUMNS: Self = Self(*b"54011");
    /// `54023`
    pub const TOO_MANY_ARGUMENTS: Self = Self(*b"54023");

    // Class 55: Object Not In Prerequisite State
    /// `55000`
    pub const OBJECT_NOT_IN_PREREQUISITE_STATE: Self = Self(*b"55000");
    /// `55006`
    pub const OBJECT_IN_USE: Self = Self(*b"55006");
    /// `55P02`
    pub const CANT_CHANGE_RUNTIME_PARAM: Self = Self(*b"55P02");
    /// `55P03`
    pub const LOCK_NOT_AVAILABLE: Self = Self(*b"55P03");
    /// `55P04`
    pub const UNSAFE_NEW_ENUM_VALUE_USAGE: Self = Self(*b"55P04");

    // Class 57: Operator Intervention
    /// `57000`
    pub const OPERATOR_INTERVENTION: Self = Self(*b"57000");
    /// `57014`
    pub const QUERY_CANCELED: Self = Self(*b"57014");
    /// `57P01`
    pub const ADMIN_SHUTDOWN: Self = Self(*b"57P01");
    /// `57P02`
    pub const CRASH_SHUTDOWN: Self = Self(*b"57P02");
    /// `57P03`
    pub const CANNOT_CONNECT_NOW: Self = Self(*b"57P03");
    /// `57P04`
    pub const DATABASE_DROPPED: Self = Self(*b"57P04");
    /// `57P05`
    pub const IDLE_SESSION_TIMEOUT: Self = Self(*b"57P05");

    // Class 58: System Error (errors external to PostgreSQL itself)
    /// `58000`
    pub const SYSTEM_ERROR: Self = Self(*b"58000");
    /// `58030`
    pub const IO_ERROR: Self = Self(*b"58030");
    /// `58P01`
    pub const UNDEFINED_FILE: Self = Self(*b"58P01");
    /// `58P02`
    pub const DUPLICATE_FILE: Self = Self(*b"58P02");

    // Class F0: Configuration File Error
    /// `F0000`
    pub const CONFIG_FILE_ERROR: Self = Self(*b"F0000");
    /// `F0001`
    pub const LOCK_FILE_EXISTS: Self = Self(*b"F0001");

    // Class HV: Foreign Data Wrapper Error (SQL/MED)
    /// `HV000`
    pub const FDW_ERROR: Self = Self(*b"HV000");
    /// `HV005`
    pub const FDW_COLUMN_NAME_NOT_FOUND: Self = Self(*b"HV005");
    /// `HV002`
    pub const FDW_DYNAMIC_PARAMETER_VALUE_NEEDED: Self = Self(*b"HV002");
    /// `HV010`
    pub const FDW_FUNCTION_SEQUENCE_ERROR: Self = Self(*b"HV010");
    /// `HV021`
    pub const FDW_INCONSISTENT_DESCRIPTOR_INFORMATION: Self = Self(*b"HV021");
    /// `HV024`
    pub const FDW_INVALID_ATTRIBUTE_VALUE: Self = Self(*b"HV024");
    /// `HV007`
    pub const FDW_INVALID_COLUMN_NAME: Self = Self(*b"HV007");
    /// `HV008`
    pub const FDW_INVALID_COLUMN_NUMBER: Self = Self(*b"HV008");
    /// `HV004`
    pub const FDW_INVALID_DATA_TYPE: Self = Self(*b"HV004");
    /// `HV006`
    pub const FDW_INVALID_DATA_TYPE_DESCRIPTORS: Self = Self(*b"HV006");
    /// `HV091`
    pub const FDW_INVALID_DESCRIPTOR_FIELD_IDENTIFIER: Self = Self(*b"HV091");
    /// `HV00B`
    pub const FDW_INVALID_HANDLE: Self = Self(*b"HV00B");
    /// `HV00C`
    pub const FDW_INVALID_OPTION_INDEX: Self = Self(*b"HV00C");
    /// `HV00D`
    pub const FDW_INVALID_OPTION_NAME: Self = Self(*b"HV00D");
    /// `HV090`
    pub const FDW_INVALID_STRING_LENGTH_OR_BUFFER_LENGTH: Self = Self(*b"HV090");
    /// `HV00A`
    pub const FDW_INVALID_STRING_FORMAT: Self = Self(*b"HV00A");
    /// `HV009`
    pub const FDW_INVALID_USE_OF_NULL_POINTER: Self = Self(*b"HV009");
    /// `HV014`
    pub const FDW_TOO_MANY_HANDLES: Self = Self(*b"HV014");
    /// `HV001`
    pub const FDW_OUT_OF_MEMORY: Self = Self(*b"HV001");
    /// `HV00P`
    pub const FDW_NO_SCHEMAS: Self = Self(*b"HV00P");
    /// `HV00J`
    pub const FDW_OPTION_NAME_NOT_FOUND: Self = Self(*b"HV00J");
    /// `HV00K`
    pub const FDW_REPLY_HANDLE: Self = Self(*b"HV00K");
    /// `HV00Q`
    pub const FDW_SCHEMA_NOT_FOUND: Self = Self(*b"HV00Q");
    /// `HV00R`
    pub const FDW_TABLE_NOT_FOUND: Self = Self(*b"HV00R");
    /// `HV00L`
    pub const FDW_UNABLE_TO_CREATE_EXECUTION: Self = Self(*b"HV00L");
    /// `HV00M`
    pub const FDW_UNABLE_TO_CREATE_REPLY: Self = Self(*b"HV00M");
    /// `HV00N`
    pub const FDW_UNABLE_TO_ESTABLISH_CONNECTION: Self = Self(*b"HV00N");

    // Class P0: PL/pgSQL Error
    /// `P0000`
    pub const PLPGSQL_ERROR: Self = Self(*b"P0000");
    /// `P0001`
    pub const RAISE_EXCEPTION: Self = Self(*b"P0001");
    /// `P0002`
    pub const NO_DATA_FOUND: Self = Self(*b"P0002");
    /// `P0003`
    pub const TOO_MANY_ROWS: Self = Self(*b"P0003");
    /// `P0004`
    pub const ASSERT_FAILURE: Self = Self(*b"P0004");

    // Class XX: Internal Error
    /// `XX000`
    pub const INTERNAL_ERROR: Self = Self(*b"XX000");
    /// `XX001`
    pub const DATA_CORRUPTED: Self = Self(*b"XX001");
    /// `XX002`
    pub const INDEX_CORRUPTED: Self = Self(*b"XX002");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_compare_match_and_print() {
        let code = SqlState::from_code("23505").unwrap();
        assert!(matches!(code, SqlState::UNIQUE_VIOLATION));
        assert_eq!((code.to_string().as_str(), code.class()), ("23505", "23"));
        assert_eq!(code, "23505");
        assert_eq!(["2350", "235055", "2350é", "2350a"].map(SqlState::from_code), [None; 4]);
    }
}
